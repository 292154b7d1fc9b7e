"""What a command cannot mean on a cluster that sees nothing of this machine's files: paths, modules, config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nets import custom
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


def target_problems(target: str, args: Mapping[str, Any], cluster: str) -> list[str]:
    """What is wrong with a callable, as far as it can be told here: the cluster may have modules that are not here."""
    name = target.partition(".")[0]
    travels = cluster == "ray_job" and (Path(f"{name}.py").is_file() or Path(name).is_dir())
    return custom.check(target, args) if travels or name in custom.OF_PYTHON or "." not in target else []
