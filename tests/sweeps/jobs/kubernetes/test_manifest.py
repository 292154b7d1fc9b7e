"""The RayJob manifest against KubeRay's schema and rules, and against Kubernetes' restricted policy for pods."""

from __future__ import annotations

import copy
import gzip
import json
from typing import Any

import jsonschema
import pytest
import yaml

from sweeps.jobs.kinds.kubernetes import Kubernetes
from sweeps.typed.command_line import Request
from tests.support.sweep_command import ROOT
from tests.sweeps.jobs.kubernetes.manifests import ALL, CLAIM, EXTREMES, MANIFESTS, documents, pods
from tests.sweeps.jobs.kubernetes.rules import api_server, kuberay
from tests.sweeps.jobs.kubernetes.rules.bare_texts import bare_texts
from tests.sweeps.jobs.kubernetes.rules.rule import Rule

SCHEMA = ROOT / "tests" / "data" / "rayjob.v1.schema.json.gz"
RULES = [*kuberay.RULES, *api_server.RULES]


def strict(schema: Any) -> Any:
    """Return the schema as JSON Schema that refuses unknown fields, which the API server drops without a word."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        out.pop("type", None)
    if "properties" in schema and schema.get("x-kubernetes-preserve-unknown-fields") is not True:
        out["additionalProperties"] = False
    return out


@pytest.fixture(scope="module")
def rayjob() -> jsonschema.protocols.Validator:
    schema = strict(json.loads(gzip.decompress(SCHEMA.read_bytes())))
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


@MANIFESTS
def test_the_manifest_is_a_rayjob(rayjob: jsonschema.protocols.Validator, options: Kubernetes) -> None:
    _, manifest = documents(options)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    rayjob.validate(manifest)


@MANIFESTS
@pytest.mark.parametrize("further", [{}, {"resume": "sweep-0"}], ids=["new", "resume"])
def test_kuberay_and_kubernetes_take_the_manifest(options: Kubernetes, further: dict[str, Any]) -> None:
    assert options.problems() == []
    name = "sweep-20261231-235959-abcdef"
    text = options.remote_job(Request(name=name, arguments=["model=tiny"], **further)).text
    assert bare_texts(text) == []
    scripts, manifest = yaml.safe_load_all(text)
    assert [rule.name for rule in RULES if rule.refuses(manifest)] == []
    assert {type(value) for value in scripts["data"].values()} == {str}
    worker = pods(manifest)[2]
    assert worker.get("nodeSelector", {}) == options.node_selector


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_refuses_its_example(rule: Rule) -> None:
    _, manifest = documents(ALL)
    broken = copy.deepcopy(manifest)
    rule.breaks(broken)
    assert broken != manifest
    assert rule.refuses(broken)
    assert not rule.refuses(manifest)


def test_bare_texts_are_detected() -> None:
    assert bare_texts("[1e3, '1e3', y, 0o7, 1_0e2, a, 600, true]") == ["1e3", "y", "0o7", "1_0e2"]


def test_the_version_of_ray_is_the_images() -> None:
    pinned = (ROOT / "requirements.txt").read_text()
    assert f"\nray=={documents(CLAIM)[1]['spec']['rayClusterSpec']['rayVersion']}\n" in pinned
    assert documents(EXTREMES)[1]["spec"]["rayClusterSpec"]["rayVersion"] == "2.52.0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "entrypoint"), 3),
        (("spec", "ttlSecondsAfterFinnished"), 3),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "groupName"), None),
    ],
)
def test_the_schema_would_refuse_a_wrong_one(rayjob: jsonschema.protocols.Validator, path: Any, value: Any) -> None:
    _, manifest = documents(CLAIM)
    place: Any = manifest
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        rayjob.validate(manifest)


@MANIFESTS
def test_no_pod_has_more_rights_than_the_restricted_policy_allows(options: Kubernetes) -> None:
    for pod in pods(documents(options)[1]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is (options.service_account is not None)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for volume in pod.get("volumes", ()):
            assert "hostPath" not in volume
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_trials_run_on_workers_with_the_resources_and_labels_of_the_options() -> None:
    cluster = documents(ALL)[1]["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["rayStartParams"]["num-cpus"]) == (4, "16")
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert group["template"]["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert group["template"]["spec"]["serviceAccountName"] == "writer"
    assert group["template"]["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "pool", "operator": "Equal", "value": "sweeps", "effect": "NoExecute"},
        {"key": "spot", "operator": "Equal", "value": "yes"},
    ]


def test_all_pods_can_be_pulled_and_the_head_can_be_placed() -> None:
    manifest = documents(ALL)[1]
    assert (manifest["spec"]["backoffLimit"], documents(CLAIM)[1]["spec"]["backoffLimit"]) == (3, 0)
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    submitter, head, worker = pods(manifest)
    assert [pod["imagePullSecrets"] for pod in (submitter, head, worker)] == [[{"name": "registry"}]] * 3
    for pod in (submitter, head):
        assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "small"}, [{"operator": "Exists"}])
    assert not {"nodeSelector", "tolerations", "imagePullSecrets"} & set(pods(documents(CLAIM)[1])[2])
