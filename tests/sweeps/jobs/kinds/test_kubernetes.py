"""Options of a RayJob that Kubernetes would refuse, and the commands that are printed once it has the job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sweeps.errors import UsageError
from sweeps.jobs.job import HandedOver
from sweeps.jobs.kinds import kubernetes
from sweeps.jobs.kinds.kubernetes import Manifest
from tests.support.printed import Printed
from tests.sweeps.jobs.kubernetes.manifests import CLAIM, documents, pods


@pytest.mark.parametrize(
    ("wrong", "sentences"),
    [
        ({"image": None, "claim": None}, ["cluster.image: expected an image", "Received: neither."]),
        ({"store": "s3://bucket"}, ["Received: both."]),
        ({"claim": None, "store": "/mnt"}, ["store=/mnt: expected s3://bucket/folder"]),
        ({"claim": None, "store": "s3://me:word@bucket/a"}, ["expected s3://bucket/folder"]),
        ({"cpus": 0, "memory": "lots"}, ["memory=lots: expected an amount such as 16Gi.", "cpus=0: "]),
        (
            {"memory": "16", "head_memory": "8gi"},
            ["memory=16: expected at least 512Mi, such as 16Gi. Received: 16 bytes.", "head_memory=8gi: "],
        ),
        ({"workers": 2**31, "backoff_limit": -1}, ["backoff_limit=-1: expected at least 0", "workers=2147483648: "]),
        ({"image": "registry.example/Sweeps:1"}, ["its path in small letters."]),
        ({"image": "a b"}, ["image=a b: expected an image's name"]),
        ({"namespace": "team.a", "claim": "Results"}, ["namespace=team.a: ", "claim=Results: "]),
        (
            {"secret": "a_b", "service_account": "a/b", "image_pull_secrets": [""]},
            ["service_acc", "secret: ", "pull_s"],
        ),
        ({"node_selector": {"gpu": "a b"}}, ["cluster.node_selector={gpu: a b}: expected a label's value"]),
        (
            {"head_node_selector": {"/x": "a"}, "labels": {"a": "-"}},
            ["head_node_selector={/x: a}: ", "labels={a: -}: "],
        ),
        ({"gpu_resource": "gpu"}, ["gpu_resource=gpu: expected a resource that a device plugin offers"]),
        ({"gpu_resource": "kubernetes.io/gpu"}, ["gpu_resource=kubernetes.io/gpu: "]),
        ({"ray_version": "2.51.0"}, ["ray_version=2.51.0: expected the version of Ray in the image"]),
        ({"ray_version": "latest"}, ["2.52 or later"]),
        ({"tolerations": ["gpu:NoShedule"]}, ["NoExecute. Did you mean NoSchedule or PreferNoSchedule?"]),
        ({"tolerations": [{"kye": "a"}]}, ["{kye: a}: expected only key, operator, value, effect, tolerationSeconds"]),
        ({"tolerations": [{"value": "a"}, ["x"]]}, ["a key, or operator: Exists", "expected KEY=VALUE:EFFECT"]),
        ({"head_tolerations": [{"key": "a", "operator": "In"}]}, ["expected operator to be one of Exists, Equal"]),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, ["no value with operator: Exists."]),
        ({"tolerations": [{"key": "a", "tolerationSeconds": "1"}]}, ["effect: NoExecute with tolerationSeconds."]),
        (
            {"tolerations": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": "soon"}]},
            ["tolerationSeconds to be a whole number."],
        ),
        ({"tolerations": [{"key": "a", "value": "b c"}, "=x"]}, ["a label's value", "a label's name"]),
    ],
    ids=str,
)
def test_problems_are_reported_all_together(wrong: dict[str, Any], sentences: list[str]) -> None:
    problems = replace(CLAIM, **wrong).problems()
    assert len(problems) == len(sentences), problems
    for line, sentence in zip(problems, sentences, strict=True):
        assert sentence in line


def test_a_toleration_of_everything_and_one_from_a_file_are_taken() -> None:
    from_file = [{"operator": "Exists"}, {"key": "spot", "value": True}, True]
    options = replace(CLAIM, tolerations=from_file)
    assert options.problems() == []
    assert pods(documents(options)[1])[2]["tolerations"] == [
        {"operator": "Exists"},
        {"key": "spot", "value": "true", "operator": "Equal"},
        {"key": "true", "operator": "Exists"},
    ]


def test_a_command_line_that_kubernetes_cannot_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="expected arguments that fit into the 200000 bytes"):
        documents(CLAIM, arguments=[f"batch={','.join(map(str, range(60_000)))}"])


def test_printed_commands_can_be_pasted() -> None:
    printed = Printed()
    taker = Manifest(name="sweep-1", namespace="lab", text="", results="there")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes, "COMMAND", "true")
        assert taker.submit(printed) == HandedOver(0, "sweep-1")
        patch.setattr(kubernetes, "COMMAND", "false")
        with pytest.raises(UsageError, match="`false get rayjob sweep-1 --namespace lab` shows whether"):
            taker.submit(printed)
    assert printed.sentences[0] == "Job      sweep-1; `true get rayjob sweep-1 --namespace lab` shows its state"
    assert printed.sentences[1] == "Output   `true logs --follow job/sweep-1 --namespace lab`"
