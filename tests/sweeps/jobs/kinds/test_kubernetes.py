"""The RayJob manifest against KubeRay's schema and the rules of Kubernetes' restricted policy for pods."""

from __future__ import annotations

import copy
import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeps.errors import UsageError
from sweeps.jobs.job import HandedOver
from sweeps.jobs.kinds import kubernetes
from sweeps.jobs.kinds.kubernetes import Kubernetes, Manifest
from sweeps.typed.command_line import Request
from tests.support.printed import Printed
from tests.sweeps.jobs.kubernetes import kuberay_rules
from tests.sweeps.jobs.kubernetes.kuberay_rules import Rule

ROOT = Path(__file__).resolve().parents[4]
SCHEMA = ROOT / "tests" / "data" / "rayjob.v1.schema.json.gz"
CLAIM = Kubernetes(image="registry.example/sweeps:1", claim="results")
ALL = Kubernetes(
    image="registry.example/sweeps:1",
    image_pull_secrets=["registry"],
    namespace="lab",
    workers=4,
    cpus=16,
    memory="64Gi",
    gpus=2,
    node_selector={"gpu": "a100"},
    tolerations=["nvidia.com/gpu:NoSchedule", "pool=sweeps:NoExecute", {"key": "spot", "value": "yes"}],
    head_node_selector={"pool": "small"},
    head_tolerations=[{"operator": "Exists"}],
    store="s3://bucket/sweeps",
    secret="mlflow",
    service_account="writer",
    labels={"kueue.x-k8s.io/queue-name": "team"},
    backoff_limit=3,
)
EXTREMES = Kubernetes(
    image=f"{'r.' * 120}example:5000/{'a/' * 20}sweeps@sha256:{'0' * 64}",
    image_pull_secrets=["a" * 253, "1e3"],
    ray_version="2.52.0",
    namespace="1" * 63,
    workers=2**31 - 1,
    cpus=1,
    memory="1.5Ti",
    gpus=0,
    gpu_resource=f"{'d' * 100}.example/{'g' * 63}",
    node_selector={"true": "true", "on": "on", "v": "1e3", "w": "0123", f"{'d' * 253}/{'n' * 63}": "1" * 63, "e": ""},
    tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "300"}, "1e3=0o7"],
    head_memory="512Mi",
    claim="0123",
    secret="null",
    keep_s=0,
    backoff_limit=2**31 - 1,
)
MANIFESTS = pytest.mark.parametrize("options", [CLAIM, ALL, EXTREMES], ids=["claim", "all", "extremes"])


def documents(options: Kubernetes, **further: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    values: dict[str, Any] = {"name": "sweep-1", "arguments": ["-m", "model=tiny", "batch=1,2"]} | further
    job = options.remote_job(Request(**values))
    scripts, manifest = yaml.safe_load_all(job.text)
    return scripts, manifest


def strict(schema: Any) -> Any:
    """The schema as a JSON Schema that refuses unknown fields, which the API server would drop silently."""
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
    assert kuberay_rules.bare_texts(text) == []
    scripts, manifest = yaml.safe_load_all(text)
    assert kuberay_rules.refusals(manifest) == []
    assert {type(value) for value in scripts["data"].values()} == {str}
    worker = pods(manifest)[2]
    assert worker.get("nodeSelector", {}) == options.node_selector


@pytest.mark.parametrize("rule", kuberay_rules.RULES, ids=lambda rule: rule.name)
def test_each_rule_refuses_its_example(rule: Rule) -> None:
    _, manifest = documents(ALL)
    broken = copy.deepcopy(manifest)
    rule.breaks(broken)
    assert broken != manifest
    assert rule.refuses(broken)
    assert not rule.refuses(manifest)


def test_bare_texts_are_noticed() -> None:
    assert kuberay_rules.bare_texts("[1e3, '1e3', y, 0o7, 1_0e2, a, 600, true]") == ["1e3", "y", "0o7", "1_0e2"]


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


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    spec = manifest["spec"]
    cluster = spec["rayClusterSpec"]
    templates = [spec["submitterPodTemplate"], cluster["headGroupSpec"]["template"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    return [template["spec"] for template in templates]


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


def test_trials_run_on_workers_with_the_requested_amounts() -> None:
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


def run_script(options: Kubernetes, **further: Any) -> str:
    scripts, manifest = documents(options, **further)
    text = str(scripts["data"]["run.sh"])
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    (volume,) = [each for each in pods(manifest)[1]["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] == scripts["metadata"]["name"] == manifest["metadata"]["name"]
    return text


def test_the_head_runs_the_command_line_or_what_is_left_of_it() -> None:
    text = run_script(CLAIM, arguments=["-m", "model=tiny", "batch=1,2", "+model.note=it's", "fail_fast=2"])
    sweep = "-m model=tiny batch=1,2 '+model.note=it'\"'\"'s' fail_fast=2 tracking.uri=sqlite:////results/mlflow.db"
    assert f"set -- {sweep} hydra.sweep.dir=/results/sweep-1 " in text
    assert (
        "[ -f /results/sweep-1/plan.json ] && set -- resume=/results/sweep-1 fail_fast=2 tracking.uri=sqlite:" in text
    )
    assert 'python sweeps/run.py "$@" cluster=ray cluster.address=auto\ncode=$?\nexit "$code"\n' in text


def test_a_sweep_of_any_name_is_resumed() -> None:
    (line,) = [line for line in run_script(CLAIM, resume="run (1)").splitlines() if line.startswith("set -- ")]
    resume = shlex.split(line)[2]
    assert OverridesParser.create().parse_override(resume).value() == "/results/run (1)"


def test_what_a_stopped_job_has_reaches_the_object_store(tmp_path: Path) -> None:
    """Stop it as Ray does: SIGTERM to everything that the job has started, and then some time to end."""
    manifest = documents(ALL)[1]
    (head,) = pods(manifest)[1]["containers"]
    assert head["env"] == [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "120"}]
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/bash\n"
        f"echo $3 $4 >> {tmp_path}/copied\n"
        f'[ "$1" != sweeps/run.py ] || exec {sys.executable} -c "\n'
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        'os.kill(os.getpid(), signal.SIGTERM)"\n'
    )
    python.chmod(0o755)
    script = run_script(ALL).replace("cd /sweeps", f"cd {tmp_path}")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 130, done.stderr
    stored, folder = "s3://bucket/sweeps/sweep-1", "/results/sweep-1"
    copies = [line for line in (tmp_path / "copied").read_text().splitlines() if "s3://" in line]
    assert (copies[0], copies[-1]) == (f"{stored} {folder}", f"{folder} {stored}")


def runs_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what the head runs, with this machine's Python and without Ray, below `folder`."""
    script = script.replace("cd /sweeps", f"cd {shlex.quote(str(ROOT))}").replace("/results", f"{folder}/results")
    script = script.replace("cluster=ray cluster.address=auto", "cluster=inline").replace("s3://", f"file://{folder}/")
    script = script.replace("python -m", f"{sys.executable} -m").replace("python sweeps", f"{sys.executable} sweeps")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_", "PYTEST"))}
    return subprocess.run(["bash", "-c", script], env=kept, capture_output=True, text=True, timeout=200, check=False)


QUICK = ["model=tiny", "tracking=none", "calibrate=false", "protocol=classic", "protocol.burn_in=1", "protocol.steps=3"]


def test_a_retried_job_runs_what_its_sweep_has_no_result_of(tmp_path: Path) -> None:
    """The head is lost when one of two trials is in the object store, and the job runs again on a new head."""
    script = run_script(ALL, arguments=["-m", "batch=1,2", *QUICK, "timeout_s=0.01"], uri="sqlite:///unused.db")
    first = runs_script(script, tmp_path)
    assert first.returncode == 1, first.stderr
    journal = tmp_path / "bucket" / "sweeps" / "sweep-1" / "results.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) == 2
    journal.write_text(f"{lines[0]}\n")
    shutil.rmtree(tmp_path / "results")
    second = runs_script(script, tmp_path)
    assert second.returncode == 1, second.stderr
    again = journal.read_text().splitlines()
    assert (len(again), again[0]) == (2, lines[0])
    assert json.loads(again[1])["trial_id"] == json.loads(lines[1])["trial_id"]


def test_a_retry_runs_nothing_anew_that_its_job_has_run_anew(tmp_path: Path) -> None:
    script = run_script(CLAIM, arguments=[*QUICK, "timeout_s=0.01"])
    assert runs_script(script, tmp_path).returncode == 1
    journal = tmp_path / "results" / "sweep-1" / "results.jsonl"
    assert len(journal.read_text().splitlines()) == 1
    rerun = run_script(CLAIM, name="sweep-2", resume="sweep-1", arguments=["rerun=failed", "tracking=none"])
    for _ in range(2):
        assert runs_script(rerun, tmp_path).returncode == 1
        assert len(journal.read_text().splitlines()) == 2


def test_an_object_store_is_read_before_and_written_after_the_sweep() -> None:
    text = run_script(ALL, uri="http://mlflow.example")
    copied, before, after = "python -m sweeps.jobs.store", *text.split('python sweeps/run.py "$@"')
    assert f"{copied} s3://bucket/sweeps/sweep-1 /results/sweep-1" in before
    assert f"{copied} /results/sweep-1 s3://bucket/sweeps/sweep-1" in after
    assert "tracking.uri=http://mlflow.example" in before


def test_a_sweep_that_is_there_is_resumed_by_its_name() -> None:
    text = run_script(CLAIM, resume="sweep-0", arguments=["rerun=failed"])
    assert "\nset -- resume=/results/sweep-0 rerun=failed tracking.uri=" in text
    text = run_script(CLAIM, resume="sweep-0", arguments=["rerun=failed"], keeps_uri=True)
    assert "\nset -- resume=/results/sweep-0 rerun=failed\n" in text


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
            ["memory=16: expected at least 512Mi, as 16Gi. Received: 16 bytes.", "head_memory=8gi: "],
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
def test_problems_are_reported_all_at_once(wrong: dict[str, Any], sentences: list[str]) -> None:
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
    with pytest.raises(UsageError, match=r"expected arguments that fit into the 200000 bytes .* Received: \d+ bytes\."):
        documents(CLAIM, arguments=[f"batch={','.join(map(str, range(60_000)))}"])


def test_printed_commands_can_be_pasted() -> None:
    printed = Printed()
    taker = Manifest(name="sweep-1", namespace="lab", text="", results="there")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes, "COMMAND", "true")
        assert taker.submit(printed) == HandedOver(0, "sweep-1")
        patch.setattr(kubernetes, "COMMAND", "false")
        with pytest.raises(
            UsageError, match="`false get rayjob sweep-1 --namespace lab` shows whether it was created anyway"
        ):
            taker.submit(printed)
    assert printed.sentences[0] == "Job      sweep-1; `true get rayjob sweep-1 --namespace lab` shows its state"
    assert printed.sentences[1] == "Output   `true logs --follow job/sweep-1 --namespace lab`"
