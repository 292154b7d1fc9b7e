"""Rules of KubeRay, which ends a job that breaks one as `ValidationFailed`.

They are those of `ray-operator/controllers/ray/utils/validation.go` (ray-project/kuberay, commit feeaf72fa; 1.5.1 to
1.7.0 have them or fewer) that concern a RayJob. Those about fields that need a feature gate are one rule: that the
field is absent.
"""

from __future__ import annotations

import re

import yaml

from tests.sweeps.jobs.kubernetes.rules.labels import are_labels
from tests.sweeps.jobs.kubernetes.rules.rule import (
    CLUSTER,
    ENV,
    HEAD,
    WORKER,
    WORKER_POD,
    Rule,
    both,
    cluster,
    groups,
    head,
    head_env,
    put,
    spec,
    variable,
    workers,
)

_GATED = ("historyServerOptions", "networkPolicy", "tlsOptions")


def _version(text: object) -> tuple[int, ...]:
    match = re.match(r"v?(\d+(?:\.\d+)*)", str(text or ""))
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _unreadable(text: str) -> bool:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return True
    return False


RULES = [
    Rule("name of at most 47", lambda job: len(job["metadata"]["name"]) > 47, put("metadata", "name", "a" * 48)),
    Rule(
        "name is a DNS-1035 label",
        lambda job: not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"]),
        put("metadata", "name", "1-job"),
    ),
    Rule(
        "suspend needs shutdownAfterJobFinishes",
        lambda job: spec(job).get("suspend") and not spec(job).get("shutdownAfterJobFinishes"),
        both(put("spec", "suspend", True), put("spec", "shutdownAfterJobFinishes", False)),
    ),
    Rule(
        "time to live not negative",
        lambda job: spec(job).get("ttlSecondsAfterFinished", 0) < 0,
        put("spec", "ttlSecondsAfterFinished", -1),
    ),
    Rule(
        "time to live needs shutdownAfterJobFinishes",
        lambda job: spec(job).get("ttlSecondsAfterFinished", 0) > 0 and not spec(job).get("shutdownAfterJobFinishes"),
        both(put("spec", "ttlSecondsAfterFinished", 1), put("spec", "shutdownAfterJobFinishes", False)),
    ),
    Rule(
        "no deletionStrategy, which excludes or repeats shutdownAfterJobFinishes",
        lambda job: "deletionStrategy" in spec(job),
        put("spec", "deletionStrategy", {"deletionRules": [{"policy": "DeleteSelf"}]}),
    ),
    Rule(
        "no clusterSelector, which excludes suspend, retries and a sidecar",
        lambda job: "clusterSelector" in spec(job),
        put("spec", "clusterSelector", {"ray.io/cluster": ""}),
    ),
    Rule("rayClusterSpec", lambda job: not spec(job).get("rayClusterSpec"), put("spec", "rayClusterSpec", {})),
    Rule(
        "an interactive job is not retried",
        lambda job: spec(job).get("submissionMode") == "InteractiveMode" and (spec(job).get("backoffLimit") or 0) > 0,
        both(put("spec", "submissionMode", "InteractiveMode"), put("spec", "backoffLimit", 1)),
    ),
    Rule(
        "a sidecar has no template of the submitter",
        lambda job: (
            spec(job).get("submissionMode") == "SidecarMode"
            and {"submitterPodTemplate", "submitterConfig"} & set(spec(job))
        ),
        put("spec", "submissionMode", "SidecarMode"),
    ),
    Rule(
        "no Kubernetes token in place of Ray's",
        lambda job: cluster(job).get("authOptions", {}).get("enableK8sTokenAuth"),
        put(*CLUSTER, "authOptions", "enableK8sTokenAuth", True),
    ),
    Rule(
        "runtimeEnvYAML is YAML",
        lambda job: _unreadable(spec(job).get("runtimeEnvYAML", "")),
        put("spec", "runtimeEnvYAML", "a: [1"),
    ),
    *(
        Rule(
            f"{key} is positive",
            lambda job, key=key: spec(job).get(key, 1) <= 0,  # type: ignore[misc]
            put("spec", key, 0),
        )
        for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds")
    ),
    Rule(
        "backoffLimit not negative",
        lambda job: (spec(job).get("backoffLimit") or 0) < 0,
        put("spec", "backoffLimit", -1),
    ),
    Rule(
        "a container in each group",
        lambda job: any(not group["template"]["spec"].get("containers") for group in groups(job)),
        put(*WORKER_POD, "containers", []),
    ),
    Rule(
        "resources in rayStartParams or in resources",
        lambda job: any(
            group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])
            for group in groups(job)
        ),
        put(*WORKER, "resources", {"CPU": "1"}),
    ),
    Rule(
        "no labels in rayStartParams",
        lambda job: any("labels" in group["rayStartParams"] for group in groups(job)),
        put(*HEAD, "rayStartParams", "labels", "a=b"),
    ),
    Rule(
        "labels of a group are labels",
        lambda job: any(not are_labels(group.get("labels", {})) for group in groups(job)),
        put(*WORKER, "labels", {"a": "-"}),
    ),
    Rule(
        "minReplicas and maxReplicas",
        lambda job: any(None in (group.get("minReplicas"), group.get("maxReplicas")) for group in workers(job)),
        put(*WORKER, "maxReplicas", None),
    ),
    Rule(
        "replicas not negative, the least not above the most",
        lambda job: any(
            not 0 <= (group.get("minReplicas") or 0) <= (group.get("maxReplicas") or 0) for group in workers(job)
        ),
        put(*WORKER, "minReplicas", 10**6),
    ),
    Rule(
        "idle time and priority need an autoscaler",
        lambda job: any(group.get("idleTimeoutSeconds") is not None or group.get("priority") for group in workers(job)),
        put(*WORKER, "idleTimeoutSeconds", 60),
    ),
    Rule(
        "suspended workers need a feature gate",
        lambda job: any(group.get("suspend") for group in workers(job)),
        put(*WORKER, "suspend", True),
    ),
    Rule(
        "no fault tolerance by halves",
        lambda job: (
            {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"} & set(head_env(job))
            or {"redis-password", "redis-username"} & set(head(job)["rayStartParams"])
            or {"ray.io/ft-enabled", "ray.io/external-storage-namespace"} & set(job["metadata"].get("annotations", {}))
            or "gcsFaultToleranceOptions" in cluster(job)
        ),
        put(*ENV, variable("RAY_REDIS_ADDRESS")),
    ),
    Rule(
        "no autoscaler of the second kind without one",
        lambda job: (
            not cluster(job).get("enableInTreeAutoscaling")
            and (head_env(job).get("RAY_enable_autoscaler_v2") in ("1", "true") or "autoscalerOptions" in cluster(job))
        ),
        put(*ENV, variable("RAY_enable_autoscaler_v2", "1")),
    ),
    *(
        Rule(
            f"no {key} without its feature gate",
            lambda job, key=key: key in cluster(job),  # type: ignore[misc]
            put(*CLUSTER, key, {"mode": "DenyAll"}),
        )
        for key in _GATED
    ),
    Rule(
        "a token needs rayVersion, 2.52 or later",
        lambda job: (
            cluster(job).get("authOptions", {}).get("mode") == "token"
            and _version(cluster(job).get("rayVersion")) < (2, 52)
        ),
        put(*CLUSTER, "rayVersion", "2.51.1"),
    ),
    Rule(
        "no upgradeStrategy in a job's cluster",
        lambda job: cluster(job).get("upgradeStrategy", {}).get("type"),
        put(*CLUSTER, "upgradeStrategy", {"type": "Recreate"}),
    ),
]
