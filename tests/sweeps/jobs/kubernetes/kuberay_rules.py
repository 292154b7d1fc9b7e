"""What KubeRay and Kubernetes refuse of a RayJob after its schema has let it pass, as rules that tests can apply.

KubeRay ends such a job as `ValidationFailed`. Its rules are those of `ray-operator/controllers/ray/utils/validation.go`
(ray-project/kuberay, commit feeaf72fa; 1.5.1 to 1.7.0 have them or fewer), as far as they are about a RayJob; those
about fields that need a feature gate are one rule, that the field is absent. Kubernetes' rules are those of
`apimachinery/pkg/util/validation` and `pkg/apis/core/validation`. Each rule carries a change that makes a good manifest
one that it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    name: str
    refuses: Callable[[Manifest], object]
    """Something true for a manifest that breaks the rule."""
    breaks: Callable[[Manifest], object]
    """Changes a manifest into one that breaks it."""


def refusals(manifest: Manifest) -> list[str]:
    """The names of the rules that a RayJob breaks."""
    return [rule.name for rule in RULES if rule.refuses(manifest)]


def _spec(job: Manifest) -> dict[str, Any]:
    return dict(job["spec"])


def _cluster(job: Manifest) -> dict[str, Any]:
    return dict(job["spec"]["rayClusterSpec"])


def _head(job: Manifest) -> dict[str, Any]:
    return dict(_cluster(job)["headGroupSpec"])


def _groups(job: Manifest) -> list[dict[str, Any]]:
    return [_head(job), *_cluster(job).get("workerGroupSpecs", [])]


def _workers(job: Manifest) -> list[dict[str, Any]]:
    return list(_cluster(job).get("workerGroupSpecs", []))


def _pods(job: Manifest) -> list[dict[str, Any]]:
    templates = [*(group["template"] for group in _groups(job)), _spec(job).get("submitterPodTemplate", {"spec": {}})]
    return [template["spec"] for template in templates]


def _containers(job: Manifest) -> list[dict[str, Any]]:
    return [container for pod in _pods(job) for container in pod.get("containers", [])]


def _head_env(job: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in _head(job)["template"]["spec"]["containers"][0].get("env", [])}


def _version(text: object) -> tuple[int, ...]:
    match = re.match(r"v?(\d+(?:\.\d+)*)", str(text or ""))
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _put(*path: Any) -> Callable[[Manifest], object]:
    """A change that writes the last of `path` where the others lead."""
    *way, key, value = path

    def change(job: Manifest) -> None:
        place: Any = job
        for step in way:
            place = place[step] if isinstance(place, list) else place.setdefault(step, {})
        place[key] = value

    return change


def _both(*changes: Callable[[Manifest], object]) -> Callable[[Manifest], object]:
    return lambda job: [change(job) for change in changes]


_CLUSTER = ("spec", "rayClusterSpec")
_HEAD = (*_CLUSTER, "headGroupSpec")
_HEAD_POD = (*_HEAD, "template", "spec")
_WORKER = (*_CLUSTER, "workerGroupSpecs", 0)
_WORKER_POD = (*_WORKER, "template", "spec")
_ENV = (*_HEAD_POD, "containers", 0, "env")


def _variable(name: str, value: str = "x") -> list[dict[str, str]]:
    return [{"name": name, "value": value}]


_GATED = ("historyServerOptions", "networkPolicy", "tlsOptions")

KUBERAY = [
    Rule("name of at most 47", lambda job: len(job["metadata"]["name"]) > 47, _put("metadata", "name", "a" * 48)),
    Rule(
        "name is a DNS-1035 label",
        lambda job: not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"]),
        _put("metadata", "name", "1-job"),
    ),
    Rule(
        "suspend needs shutdownAfterJobFinishes",
        lambda job: _spec(job).get("suspend") and not _spec(job).get("shutdownAfterJobFinishes"),
        _both(_put("spec", "suspend", True), _put("spec", "shutdownAfterJobFinishes", False)),
    ),
    Rule(
        "time to live not negative",
        lambda job: _spec(job).get("ttlSecondsAfterFinished", 0) < 0,
        _put("spec", "ttlSecondsAfterFinished", -1),
    ),
    Rule(
        "time to live needs shutdownAfterJobFinishes",
        lambda job: _spec(job).get("ttlSecondsAfterFinished", 0) > 0 and not _spec(job).get("shutdownAfterJobFinishes"),
        _both(_put("spec", "ttlSecondsAfterFinished", 1), _put("spec", "shutdownAfterJobFinishes", False)),
    ),
    Rule(
        "no deletionStrategy, which excludes or repeats shutdownAfterJobFinishes",
        lambda job: "deletionStrategy" in _spec(job),
        _put("spec", "deletionStrategy", {"deletionRules": [{"policy": "DeleteSelf"}]}),
    ),
    Rule(
        "no clusterSelector, which excludes suspend, retries and a sidecar",
        lambda job: "clusterSelector" in _spec(job),
        _put("spec", "clusterSelector", {"ray.io/cluster": ""}),
    ),
    Rule("rayClusterSpec", lambda job: not _spec(job).get("rayClusterSpec"), _put("spec", "rayClusterSpec", {})),
    Rule(
        "an interactive job is not retried",
        lambda job: _spec(job).get("submissionMode") == "InteractiveMode" and (_spec(job).get("backoffLimit") or 0) > 0,
        _both(_put("spec", "submissionMode", "InteractiveMode"), _put("spec", "backoffLimit", 1)),
    ),
    Rule(
        "a sidecar has no template of the submitter",
        lambda job: (
            _spec(job).get("submissionMode") == "SidecarMode"
            and {"submitterPodTemplate", "submitterConfig"} & set(_spec(job))
        ),
        _put("spec", "submissionMode", "SidecarMode"),
    ),
    Rule(
        "no Kubernetes token in place of Ray's",
        lambda job: _cluster(job).get("authOptions", {}).get("enableK8sTokenAuth"),
        _put(*_CLUSTER, "authOptions", "enableK8sTokenAuth", True),
    ),
    Rule(
        "runtimeEnvYAML is YAML",
        lambda job: _unreadable(_spec(job).get("runtimeEnvYAML", "")),
        _put("spec", "runtimeEnvYAML", "a: [1"),
    ),
    *(
        Rule(
            f"{key} is positive",
            lambda job, key=key: _spec(job).get(key, 1) <= 0,  # type: ignore[misc]
            _put("spec", key, 0),
        )
        for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds")
    ),
    Rule(
        "backoffLimit not negative",
        lambda job: (_spec(job).get("backoffLimit") or 0) < 0,
        _put("spec", "backoffLimit", -1),
    ),
    Rule(
        "a container in each group",
        lambda job: any(not group["template"]["spec"].get("containers") for group in _groups(job)),
        _put(*_WORKER_POD, "containers", []),
    ),
    Rule(
        "resources in rayStartParams or in resources",
        lambda job: any(
            group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])
            for group in _groups(job)
        ),
        _put(*_WORKER, "resources", {"CPU": "1"}),
    ),
    Rule(
        "no labels in rayStartParams",
        lambda job: any("labels" in group["rayStartParams"] for group in _groups(job)),
        _put(*_HEAD, "rayStartParams", "labels", "a=b"),
    ),
    Rule(
        "labels of a group are labels",
        lambda job: any(not _are_labels(group.get("labels", {})) for group in _groups(job)),
        _put(*_WORKER, "labels", {"a": "-"}),
    ),
    Rule(
        "minReplicas and maxReplicas",
        lambda job: any(None in (group.get("minReplicas"), group.get("maxReplicas")) for group in _workers(job)),
        _put(*_WORKER, "maxReplicas", None),
    ),
    Rule(
        "replicas not negative, the least not above the most",
        lambda job: any(
            not 0 <= (group.get("minReplicas") or 0) <= (group.get("maxReplicas") or 0) for group in _workers(job)
        ),
        _put(*_WORKER, "minReplicas", 10**6),
    ),
    Rule(
        "idle time and priority need an autoscaler",
        lambda job: any(
            group.get("idleTimeoutSeconds") is not None or group.get("priority") for group in _workers(job)
        ),
        _put(*_WORKER, "idleTimeoutSeconds", 60),
    ),
    Rule(
        "suspended workers need a feature gate",
        lambda job: any(group.get("suspend") for group in _workers(job)),
        _put(*_WORKER, "suspend", True),
    ),
    Rule(
        "no fault tolerance by halves",
        lambda job: (
            {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"} & set(_head_env(job))
            or {"redis-password", "redis-username"} & set(_head(job)["rayStartParams"])
            or {"ray.io/ft-enabled", "ray.io/external-storage-namespace"} & set(job["metadata"].get("annotations", {}))
            or "gcsFaultToleranceOptions" in _cluster(job)
        ),
        _put(*_ENV, _variable("RAY_REDIS_ADDRESS")),
    ),
    Rule(
        "no autoscaler of the second kind without one",
        lambda job: (
            not _cluster(job).get("enableInTreeAutoscaling")
            and (
                _head_env(job).get("RAY_enable_autoscaler_v2") in ("1", "true") or "autoscalerOptions" in _cluster(job)
            )
        ),
        _put(*_ENV, _variable("RAY_enable_autoscaler_v2", "1")),
    ),
    *(
        Rule(
            f"no {key} without its feature gate",
            lambda job, key=key: key in _cluster(job),  # type: ignore[misc]
            _put(*_CLUSTER, key, {"mode": "DenyAll"}),
        )
        for key in _GATED
    ),
    Rule(
        "a token needs rayVersion, 2.52 or later",
        lambda job: (
            _cluster(job).get("authOptions", {}).get("mode") == "token"
            and _version(_cluster(job).get("rayVersion")) < (2, 52)
        ),
        _put(*_CLUSTER, "rayVersion", "2.51.1"),
    ),
    Rule(
        "no upgradeStrategy in a job's cluster",
        lambda job: _cluster(job).get("upgradeStrategy", {}).get("type"),
        _put(*_CLUSTER, "upgradeStrategy", {"type": "Recreate"}),
    ),
]


def _unreadable(text: str) -> bool:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return True
    return False


_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def _is_subdomain(name: object) -> bool:
    return isinstance(name, str) and len(name) <= 253 and bool(re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", name))


def _is_label(name: object) -> bool:
    return isinstance(name, str) and len(name) <= 63 and bool(re.fullmatch(_LABEL, name))


def _is_qualified(key: object) -> bool:
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    return len(name) <= 63 and bool(re.fullmatch(_WORD, name)) and (not slash or _is_subdomain(prefix))


def _is_label_value(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 63 and (not value or bool(re.fullmatch(_WORD, value)))


def _are_labels(labels: Mapping[Any, Any]) -> bool:
    return all(_is_qualified(key) and _is_label_value(value) for key, value in labels.items())


def _amounts(job: Manifest) -> Iterator[tuple[str, object]]:
    for container in _containers(job):
        for amounts in container.get("resources", {}).values():
            yield from amounts.items()


def _is_amount(value: object) -> bool:
    suffix = r"([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?"
    return isinstance(value, str) and bool(re.fullmatch(rf"(\d+\.?\d*|\.\d+){suffix}", value))


def _is_resource(name: str) -> bool:
    domain, slash, _ = name.rpartition("/")
    extended = bool(slash) and not domain.endswith("kubernetes.io") and not name.startswith("requests.")
    return name in ("cpu", "memory") or (extended and _is_qualified(f"requests.{name}"))


def _is_toleration(toleration: Mapping[str, Any]) -> bool:
    operator, effect = toleration.get("operator") or "Equal", toleration.get("effect") or ""
    key, value = toleration.get("key") or "", toleration.get("value") or ""
    seconds = toleration.get("tolerationSeconds")
    return (
        operator in ("Exists", "Equal")
        and effect in ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
        and (_is_qualified(key) if key else operator == "Exists")
        and (_is_label_value(value) if operator == "Equal" else not value)
        and (seconds is None or (isinstance(seconds, int) and effect == "NoExecute"))
    )


def _names(job: Manifest) -> Iterator[object]:
    """Names of the objects that the job refers to."""
    for pod in _pods(job):
        yield from (secret["name"] for secret in pod.get("imagePullSecrets", []))
        yield pod.get("serviceAccountName", "default")
        for volume in pod.get("volumes", []):
            yield volume.get("persistentVolumeClaim", {}).get("claimName", "name")
            yield volume.get("configMap", {}).get("name", "name")
    for container in _containers(job):
        yield from (source["secretRef"]["name"] for source in container.get("envFrom", []))


KUBERNETES = [
    Rule(
        "namespace is a DNS label",
        lambda job: not _is_label(job["metadata"].get("namespace", "default")),
        _put("metadata", "namespace", "La.b"),
    ),
    Rule(
        "names of objects",
        lambda job: not all(map(_is_subdomain, _names(job))),
        _put(*_WORKER_POD, "serviceAccountName", "A_b"),
    ),
    Rule(
        "labels of the job",
        lambda job: not _are_labels(job["metadata"].get("labels", {})),
        _put("metadata", "labels", {"a/b/c": "x"}),
    ),
    Rule(
        "a node selector holds labels, as text",
        lambda job: not all(_are_labels(pod.get("nodeSelector", {})) for pod in _pods(job)),
        _put(*_WORKER_POD, "nodeSelector", {"gpu": True}),
    ),
    Rule(
        "tolerations",
        lambda job: not all(_is_toleration(each) for pod in _pods(job) for each in pod.get("tolerations", [])),
        _put(*_WORKER_POD, "tolerations", [{"key": "a", "operator": "Exists", "value": "b"}]),
    ),
    Rule(
        "names of variables",
        lambda job: any(
            not re.fullmatch(r"[-._A-Za-z][-._A-Za-z0-9]*", each["name"])
            for container in _containers(job)
            for each in container.get("env", [])
        ),
        _put(*_ENV, _variable("1=a")),
    ),
    Rule(
        "values of variables are text",
        lambda job: any(
            not isinstance(each.get("value", ""), str)
            for container in _containers(job)
            for each in container.get("env", [])
        ),
        _put(*_ENV, [{"name": "A", "value": 1}]),
    ),
    Rule(
        "parameters of Ray are text",
        lambda job: any(
            not isinstance(each, str) for group in _groups(job) for each in group["rayStartParams"].values()
        ),
        _put(*_WORKER, "rayStartParams", {"num-cpus": 4}),
    ),
    Rule(
        "amounts",
        lambda job: any(not _is_amount(value) for _, value in _amounts(job)),
        _put(*_WORKER_POD, "containers", 0, "resources", {"limits": {"memory": "16gi"}}),
    ),
    Rule(
        "names of resources",
        lambda job: any(not _is_resource(name) for name, _ in _amounts(job)),
        _put(*_WORKER_POD, "containers", 0, "resources", {"limits": {"gpu": "1"}}),
    ),
    Rule(
        "a device is requested as it is limited, in whole numbers",
        lambda job: any(
            value != container["resources"].get("requests", {}).get(name) or not str(value).isdigit()
            for container in _containers(job)
            for name, value in container["resources"]["limits"].items()
            if "/" in name
        ),
        _put(*_WORKER_POD, "containers", 0, "resources", {"limits": {"nvidia.com/gpu": "1"}}),
    ),
    Rule(
        "an image's name without blanks",
        lambda job: any(not re.fullmatch(r"\S+", container["image"] or "") for container in _containers(job)),
        _put(*_HEAD_POD, "containers", 0, "image", ""),
    ),
    Rule(
        "containers have names of their own",
        lambda job: any(not _is_label(container["name"]) for container in _containers(job)),
        _put(*_HEAD_POD, "containers", 0, "name", "Ray_Head"),
    ),
    Rule(
        "what is mounted is a volume",
        lambda job: any(
            not {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
            <= {volume["name"] for volume in pod.get("volumes", [])}
            for pod in _pods(job)
        ),
        _put(*_HEAD_POD, "volumes", []),
    ),
    Rule(
        "the pod of a Job does not start again by itself",
        lambda job: _spec(job)["submitterPodTemplate"]["spec"].get("restartPolicy") not in ("Never", "OnFailure"),
        _put("spec", "submitterPodTemplate", "spec", "restartPolicy", "Always"),
    ),
    Rule(
        "numbers of 32 bits",
        lambda job: any(
            value > 2**31 - 1
            for value in (
                _spec(job).get("backoffLimit", 0),
                _spec(job).get("ttlSecondsAfterFinished", 0),
                *(group["replicas"] for group in _workers(job)),
            )
        ),
        _put("spec", "ttlSecondsAfterFinished", 2**31),
    ),
]

RULES = [*KUBERAY, *KUBERNETES]

# What go-yaml, which kubectl reads manifests with, takes for something else than text where it is not in quotes.
_NUMBER = r"[-+]?(\.\d[\d_]*|\d[\d_]*(\.[\d_]*)?)([eE][-+]?\d+)?|[-+]?0(x[\da-fA-F_]+|o?[0-7_]+|b[01_]+)"
_OTHER = rf"{_NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|~|\d+-\d+-\d+.*|<<|=|"
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def bare_texts(written: str) -> list[str]:
    """The texts of a YAML file that kubectl would not read as texts."""
    return [
        event.value
        for event in yaml.parse(written, Loader=yaml.SafeLoader)
        if isinstance(event, yaml.ScalarEvent)
        and event.style is None
        and isinstance(yaml.safe_load(event.value), str)
        and (re.fullmatch(_OTHER, event.value) or event.value.lower() in _WORDS)
    ]
