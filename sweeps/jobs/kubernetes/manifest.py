"""The parts of a RayJob manifest: pods, containers and the ConfigMap, and all of it as YAML.

Pods request no privileges, and request exactly as much as they may use, so that Kubernetes gives them whole cores where
it can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

STOP_S = 120
"""How long a pod or job that is being stopped has to save its results, seconds."""
_UID = 1000
"""The user that the image runs as."""


@dataclass(frozen=True, kw_only=True)
class Pods:
    """What all pods of a job have in common."""

    image: str | None
    image_pull_secrets: Sequence[str] = ()
    service_account: str | None = None
    gpu_resource: str
    """What Kubernetes calls a GPU."""

    def pod(self, container: Mapping[str, Any], **further: Any) -> dict[str, Any]:
        """Return the template of a pod with this one container; `further` fields that are empty are left out."""
        spec = {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _UID,
                "runAsGroup": _UID,
                "fsGroup": _UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "automountServiceAccountToken": self.service_account is not None,
            "terminationGracePeriodSeconds": STOP_S,
            "containers": [dict(container)],
            **{key: value for key, value in further.items() if value},
        }
        if self.image_pull_secrets:
            spec["imagePullSecrets"] = [{"name": name} for name in self.image_pull_secrets]
        if self.service_account is not None:
            spec["serviceAccountName"] = self.service_account
        return {"spec": spec}

    def container(self, name: str, cpus: int, memory: str, *, gpus: int = 0) -> dict[str, Any]:
        """Return a container with these amounts, `memory` as Kubernetes writes it: 16Gi."""
        amounts = {"cpu": str(cpus), "memory": memory} | ({self.gpu_resource: str(gpus)} if gpus else {})
        return {
            "name": name,
            "image": self.image,
            "resources": {"requests": amounts, "limits": dict(amounts)},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }


def metadata(name: str, namespace: str | None, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of an object of the job `name`; None: kubectl chooses the namespace."""
    all_labels = {**labels, "app.kubernetes.io/name": "sweeps", "app.kubernetes.io/instance": name}
    return {"name": name, **({"namespace": namespace} if namespace else {}), "labels": all_labels}


def config_map(about: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Return a ConfigMap with the metadata `about` that holds these texts by file name."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(about), "data": dict(files)}


def to_yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return the objects of a manifest as YAML, one document each."""
    return "".join(f"---\n{yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False)}" for document in documents)


_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_READ_AS_OTHERS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}
"""Texts that some YAML reader takes for a boolean, a number or null when they are not quoted."""


class _Dumper(yaml.SafeDumper):
    """Writes scripts as readable blocks, and quotes every text that some YAML reader would take for another type.

    PyYAML alone would leave 1e3 bare, which is a number to kubectl.
    """

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _READ_AS_OTHERS
    style = "|" if "\n" in value else None if plain else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
