"""What a command cannot mean on a cluster that sees nothing of this machine's files: paths, modules, config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.typed import input_paths

_OF_HYDRA = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Hydra's options that choose other files of configuration, which stay here."""


def problems(values: Mapping[str, Any]) -> list[str]:
    """What of a composed config only has a meaning in this folder."""
    cluster = values["cluster"]["name"]
    return [
        f"{key}={path}: expected an absolute path, as the nodes of cluster={cluster} see it. Received: a relative one."
        for key, path in input_paths.relative(values)
    ]


def option_problems(arguments: Sequence[str], cluster: str) -> list[str]:
    """Which of a command's options choose files that the cluster does not have."""
    chosen = [argument for argument in arguments if argument.partition("=")[0] in _OF_HYDRA]
    return [
        f"{option}: expected this project's own conf/ with cluster={cluster}, where the command is composed anew. "
        f"Received: files that stay here."
        for option in chosen
    ]
