"""Paths and options that have no meaning on a cluster that does not see this machine's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.typed import input_paths

_OF_HYDRA = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Hydra's options that choose other configuration files, which stay on this machine."""


def problems(values: Mapping[str, Any]) -> list[str]:
    """Return a problem for each relative path in a composed config, which means nothing on the cluster."""
    cluster = values["cluster"]["name"]
    return [
        f"{key}={path}: expected an absolute path, as the nodes of cluster={cluster} see it. Received: a relative one."
        for key, path in input_paths.relative(values)
    ]


def option_problems(arguments: Sequence[str], cluster: str) -> list[str]:
    """Return a problem for each option of a command that chooses files that the cluster does not have."""
    chosen = [argument for argument in arguments if argument.partition("=")[0] in _OF_HYDRA]
    return [
        f"{option}: expected this project's own conf/ with cluster={cluster}, which composes the command again. "
        f"Received: files on this machine."
        for option in chosen
    ]
