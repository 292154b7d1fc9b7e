"""RayJob manifests from the fewest options, from all of them, and from the most extreme values."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sweeps.jobs.kinds.kubernetes import Kubernetes
from sweeps.typed.command_line import Request

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
    """Return the ConfigMap with the head's script and the RayJob, parsed; `further` are fields of the request."""
    values: dict[str, Any] = {"name": "sweep-1", "arguments": ["-m", "model=tiny", "batch=1,2"]} | further
    job = options.remote_job(Request(**values))
    scripts, manifest = yaml.safe_load_all(job.text)
    return scripts, manifest


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the specs of the pods: submitter, head, then one per worker group."""
    spec = manifest["spec"]
    cluster = spec["rayClusterSpec"]
    templates = [spec["submitterPodTemplate"], cluster["headGroupSpec"]["template"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    return [template["spec"] for template in templates]
