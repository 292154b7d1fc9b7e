"""What stands in the way of a plan: devices that no node has, files that cannot be read, a folder that is taken."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from sweeps.machine.node import Node
from sweeps.machine.node_kinds import NodeKinds
from sweeps.process import paths
from sweeps.tasks import checks
from sweeps.typed import command_line, input_paths
from tracking.folder import files as folder_files
from tracking.folder.journal import PLAN, RESULTS
from tracking.record import Trial

_PROBE = ".writable"


def problems(trials: Iterable[Trial], nodes: Sequence[Node], *, files: bool = True, grows: bool = False) -> list[str]:
    """What stands in the way of running the trials on these nodes, in words.

    `files`: they read files from here. `grows`: nodes may come that have what these lack.
    """
    found: list[str] = []
    kinds = NodeKinds(nodes)
    for trial in trials:
        if not grows and not kinds.fitting(trial.device):
            found += kinds.lacking(trial.device)
        if not files:
            continue
        if trial.weights is not None and (received := paths.not_readable(trial.weights)) is not None:
            shown = paths.shortened(trial.weights, 500)
            found.append(input_paths.as_typed(trial, f"model.weights={shown}: expected a file. Received: {received}."))
        found += checks.files(trial)
    return list(dict.fromkeys(found))


def unwritable(folder: Path) -> list[str]:
    """Why results cannot be written into `folder`; nothing if they can. Creates the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder_files.write(folder, _PROBE, b"")
        (folder / _PROBE).unlink()
    except OSError as error:
        return [f"expected a results folder that can be written. Received: {folder} ({error.strerror})."]
    return []


def used(folder: Path) -> list[str]:
    """Why a new sweep cannot be kept in `folder`: it would take what is there for its own."""
    return [taken(folder)] if any(os.path.lexists(folder / name) for name in (PLAN, RESULTS)) else []


def taken(folder: str | Path) -> str:
    """The sentence for a folder that holds another sweep."""
    go_on = shlex.quote(f"resume={command_line.text(str(folder))}")
    return (
        f"expected a new folder for the sweep's results. Received: {folder}, which holds a sweep. "
        f"{go_on} goes on with that one; a new one needs another hydra.sweep.dir or hydra.run.dir."
    )
