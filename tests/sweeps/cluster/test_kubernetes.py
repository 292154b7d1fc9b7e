"""The RayJob manifest against KubeRay's own schema, and what Kubernetes' restricted policy asks of pods."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeps.cluster import kubernetes
from sweeps.cluster.command_line import Request

SCHEMA = Path(__file__).resolve().parents[2] / "data" / "rayjob.v1.schema.json.gz"
CLAIM = kubernetes.Options(image="registry.example/sweeps:1", claim="results")
ALL = kubernetes.Options(
    image="registry.example/sweeps:1",
    namespace="lab",
    workers=4,
    cpus=16,
    memory="64Gi",
    gpus=2,
    node_selector={"gpu": "a100"},
    store="s3://bucket/sweeps",
    secret="mlflow",
    service_account="writer",
)


def documents(options: kubernetes.Options, **further: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    values: dict[str, Any] = {"name": "sweep-1", "arguments": ["-m", "model=tiny", "batch=1,2"]} | further
    job = kubernetes.job(options, Request(**values))
    scripts, manifest = yaml.safe_load_all(job.text)
    return scripts, manifest


def strict(schema: Any) -> Any:
    """The schema as JSON Schema, that refuses unknown fields: the API server drops them without a word."""
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


@pytest.mark.parametrize("options", [CLAIM, ALL], ids=["claim", "all"])
def test_the_manifest_is_a_rayjob(rayjob: jsonschema.protocols.Validator, options: kubernetes.Options) -> None:
    _, manifest = documents(options)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    rayjob.validate(manifest)


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


@pytest.mark.parametrize("options", [CLAIM, ALL], ids=["claim", "all"])
def test_no_pod_has_more_rights_than_the_restricted_policy_allows(options: kubernetes.Options) -> None:
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


def test_trials_run_on_workers_with_what_was_asked_for() -> None:
    cluster = documents(ALL)[1]["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["rayStartParams"]["num-cpus"]) == (4, "16")
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert group["template"]["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert group["template"]["spec"]["serviceAccountName"] == "writer"


def run_script(options: kubernetes.Options, **further: Any) -> str:
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
    """As Ray stops it: SIGTERM to everything that the job has started, and a while for it to end."""
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
    assert copies == [f"{stored} {folder}", f"{folder} {stored}"]


def test_an_object_store_is_read_before_and_written_after_the_sweep() -> None:
    text = run_script(ALL, uri="http://mlflow.example")
    copied, before, after = "python -m sweeps.cluster.store", *text.split('python sweeps/run.py "$@"')
    assert f"{copied} s3://bucket/sweeps/sweep-1 /results/sweep-1" in before
    assert f"{copied} /results/sweep-1 s3://bucket/sweeps/sweep-1" in after
    assert "tracking.uri=http://mlflow.example" in before


def test_a_sweep_that_is_there_is_resumed_by_its_name() -> None:
    text = run_script(CLAIM, resume="sweep-0", arguments=["rerun=failed"])
    assert "\nset -- resume=/results/sweep-0 rerun=failed tracking.uri=" in text
    text = run_script(CLAIM, resume="sweep-0", arguments=["rerun=failed"], keeps_uri=True)
    assert "\nset -- resume=/results/sweep-0 rerun=failed\n" in text


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (CLAIM, []),
        (ALL, []),
        (kubernetes.Options(), ["cluster.image: expected an image", "Received: neither."]),
        (kubernetes.Options(image="i", claim="c", store="s3://b"), ["Received: both."]),
        (
            kubernetes.Options(image="i", store="/mnt"),
            ["store=/mnt: expected s3://bucket/folder"],
        ),
        (
            kubernetes.Options(image="i", claim="c", cpus=0, memory="lots"),
            ["cpus=0: ", "memory=lots: "],
        ),
    ],
)
def test_problems_are_told_all_at_once(options: kubernetes.Options, sentences: list[str]) -> None:
    found = kubernetes.problems(options)
    assert len(found) == len(sentences)
    for told, sentence in zip(found, sentences, strict=True):
        assert sentence in told
