"""One rule, the parts of a RayJob that rules look at, and changes that break rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """What KubeRay or Kubernetes demands of a RayJob, with a change that makes a good manifest break it."""

    name: str
    refuses: Callable[[Manifest], object]
    """Something true for a manifest that breaks the rule."""
    breaks: Callable[[Manifest], object]
    """Changes a manifest into one that breaks it."""


def spec(job: Manifest) -> dict[str, Any]:
    return dict(job["spec"])


def cluster(job: Manifest) -> dict[str, Any]:
    return dict(job["spec"]["rayClusterSpec"])


def head(job: Manifest) -> dict[str, Any]:
    return dict(cluster(job)["headGroupSpec"])


def workers(job: Manifest) -> list[dict[str, Any]]:
    return list(cluster(job).get("workerGroupSpecs", []))


def groups(job: Manifest) -> list[dict[str, Any]]:
    return [head(job), *cluster(job).get("workerGroupSpecs", [])]


def pods(job: Manifest) -> list[dict[str, Any]]:
    templates = [*(group["template"] for group in groups(job)), spec(job).get("submitterPodTemplate", {"spec": {}})]
    return [template["spec"] for template in templates]


def containers(job: Manifest) -> list[dict[str, Any]]:
    return [container for pod in pods(job) for container in pod.get("containers", [])]


def head_env(job: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in head(job)["template"]["spec"]["containers"][0].get("env", [])}


CLUSTER = ("spec", "rayClusterSpec")
HEAD = (*CLUSTER, "headGroupSpec")
HEAD_POD = (*HEAD, "template", "spec")
WORKER = (*CLUSTER, "workerGroupSpecs", 0)
WORKER_POD = (*WORKER, "template", "spec")
ENV = (*HEAD_POD, "containers", 0, "env")


def put(*path: Any) -> Callable[[Manifest], object]:
    """Return a change that sets the last but one of `path`, below the steps before it, to the last."""
    *way, key, value = path

    def change(job: Manifest) -> None:
        place: Any = job
        for step in way:
            place = place[step] if isinstance(place, list) else place.setdefault(step, {})
        place[key] = value

    return change


def both(*changes: Callable[[Manifest], object]) -> Callable[[Manifest], object]:
    """Return a change that makes all of these."""
    return lambda job: [change(job) for change in changes]


def variable(name: str, value: str = "x") -> list[dict[str, str]]:
    return [{"name": name, "value": value}]
