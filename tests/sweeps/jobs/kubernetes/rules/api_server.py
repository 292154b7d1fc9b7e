"""Rules of Kubernetes' API server, from `apimachinery/pkg/util/validation` and `pkg/apis/core/validation`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.sweeps.jobs.kubernetes.rules.labels import are_labels, is_label, is_label_value, is_qualified, is_subdomain
from tests.sweeps.jobs.kubernetes.rules.rule import (
    ENV,
    HEAD_POD,
    WORKER,
    WORKER_POD,
    Manifest,
    Rule,
    containers,
    groups,
    pods,
    put,
    spec,
    variable,
    workers,
)


def _amounts(job: Manifest) -> Iterator[tuple[str, object]]:
    for container in containers(job):
        for amounts in container.get("resources", {}).values():
            yield from amounts.items()


def _is_amount(value: object) -> bool:
    suffix = r"([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?"
    return isinstance(value, str) and bool(re.fullmatch(rf"(\d+\.?\d*|\.\d+){suffix}", value))


def _is_resource(name: str) -> bool:
    domain, slash, _ = name.rpartition("/")
    extended = bool(slash) and not domain.endswith("kubernetes.io") and not name.startswith("requests.")
    return name in ("cpu", "memory") or (extended and is_qualified(f"requests.{name}"))


def _is_toleration(toleration: Mapping[str, Any]) -> bool:
    operator, effect = toleration.get("operator") or "Equal", toleration.get("effect") or ""
    key, value = toleration.get("key") or "", toleration.get("value") or ""
    seconds = toleration.get("tolerationSeconds")
    return (
        operator in ("Exists", "Equal")
        and effect in ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
        and (is_qualified(key) if key else operator == "Exists")
        and (is_label_value(value) if operator == "Equal" else not value)
        and (seconds is None or (isinstance(seconds, int) and effect == "NoExecute"))
    )


def _names(job: Manifest) -> Iterator[object]:
    """Names of the objects that the job refers to."""
    for pod in pods(job):
        yield from (secret["name"] for secret in pod.get("imagePullSecrets", []))
        yield pod.get("serviceAccountName", "default")
        for volume in pod.get("volumes", []):
            yield volume.get("persistentVolumeClaim", {}).get("claimName", "name")
            yield volume.get("configMap", {}).get("name", "name")
    for container in containers(job):
        yield from (source["secretRef"]["name"] for source in container.get("envFrom", []))


RULES = [
    Rule(
        "namespace is a DNS label",
        lambda job: not is_label(job["metadata"].get("namespace", "default")),
        put("metadata", "namespace", "La.b"),
    ),
    Rule(
        "names of objects",
        lambda job: not all(map(is_subdomain, _names(job))),
        put(*WORKER_POD, "serviceAccountName", "A_b"),
    ),
    Rule(
        "labels of the job",
        lambda job: not are_labels(job["metadata"].get("labels", {})),
        put("metadata", "labels", {"a/b/c": "x"}),
    ),
    Rule(
        "a node selector holds labels, as text",
        lambda job: not all(are_labels(pod.get("nodeSelector", {})) for pod in pods(job)),
        put(*WORKER_POD, "nodeSelector", {"gpu": True}),
    ),
    Rule(
        "tolerations",
        lambda job: not all(_is_toleration(each) for pod in pods(job) for each in pod.get("tolerations", [])),
        put(*WORKER_POD, "tolerations", [{"key": "a", "operator": "Exists", "value": "b"}]),
    ),
    Rule(
        "names of variables",
        lambda job: any(
            not re.fullmatch(r"[-._A-Za-z][-._A-Za-z0-9]*", each["name"])
            for container in containers(job)
            for each in container.get("env", [])
        ),
        put(*ENV, variable("1=a")),
    ),
    Rule(
        "values of variables are text",
        lambda job: any(
            not isinstance(each.get("value", ""), str)
            for container in containers(job)
            for each in container.get("env", [])
        ),
        put(*ENV, [{"name": "A", "value": 1}]),
    ),
    Rule(
        "parameters of Ray are text",
        lambda job: any(
            not isinstance(each, str) for group in groups(job) for each in group["rayStartParams"].values()
        ),
        put(*WORKER, "rayStartParams", {"num-cpus": 4}),
    ),
    Rule(
        "amounts",
        lambda job: any(not _is_amount(value) for _, value in _amounts(job)),
        put(*WORKER_POD, "containers", 0, "resources", {"limits": {"memory": "16gi"}}),
    ),
    Rule(
        "names of resources",
        lambda job: any(not _is_resource(name) for name, _ in _amounts(job)),
        put(*WORKER_POD, "containers", 0, "resources", {"limits": {"gpu": "1"}}),
    ),
    Rule(
        "a device is requested as it is limited, in whole numbers",
        lambda job: any(
            value != container["resources"].get("requests", {}).get(name) or not str(value).isdigit()
            for container in containers(job)
            for name, value in container["resources"]["limits"].items()
            if "/" in name
        ),
        put(*WORKER_POD, "containers", 0, "resources", {"limits": {"nvidia.com/gpu": "1"}}),
    ),
    Rule(
        "an image's name without blanks",
        lambda job: any(not re.fullmatch(r"\S+", container["image"] or "") for container in containers(job)),
        put(*HEAD_POD, "containers", 0, "image", ""),
    ),
    Rule(
        "containers have names of their own",
        lambda job: any(not is_label(container["name"]) for container in containers(job)),
        put(*HEAD_POD, "containers", 0, "name", "Ray_Head"),
    ),
    Rule(
        "what is mounted is a volume",
        lambda job: any(
            not {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
            <= {volume["name"] for volume in pod.get("volumes", [])}
            for pod in pods(job)
        ),
        put(*HEAD_POD, "volumes", []),
    ),
    Rule(
        "the pod of a Job does not start again by itself",
        lambda job: spec(job)["submitterPodTemplate"]["spec"].get("restartPolicy") not in ("Never", "OnFailure"),
        put("spec", "submitterPodTemplate", "spec", "restartPolicy", "Always"),
    ),
    Rule(
        "numbers of 32 bits",
        lambda job: any(
            value > 2**31 - 1
            for value in (
                spec(job).get("backoffLimit", 0),
                spec(job).get("ttlSecondsAfterFinished", 0),
                *(group["replicas"] for group in workers(job)),
            )
        ),
        put("spec", "ttlSecondsAfterFinished", 2**31),
    ),
]
