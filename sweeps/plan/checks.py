"""Obstacles to a plan: devices that no node has, files that cannot be read, a results folder that is in use."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from nets.saved import kinds as saved_kinds
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
    """Return what prevents the trials from running on these nodes, as sentences without repeats.

    `files`: the trials read this machine's files. `grows`: nodes that have what these lack may still join.
    """
    refusals: list[str] = []
    kinds = NodeKinds(nodes)
    for trial in trials:
        if not grows and not kinds.fitting(trial.device):
            refusals += kinds.lacking(trial.device)
        if not files:
            continue
        if trial.weights is not None and (received := paths.not_readable(trial.weights)) is not None:
            shown = paths.shortened(trial.weights, 500)
            refusals.append(
                input_paths.as_typed(trial, f"model.weights={shown}: expected a file. Received: {received}.")
            )
        if trial.path is not None:
            received = saved_kinds.misfit(trial.path, paths.not_readable(trial.path))
            if received is not None:
                shown = paths.shortened(trial.path, 500)
                refusals.append(input_paths.as_typed(trial, f"model.path={shown}: {received}"))
        refusals += checks.files(trial)
    return list(dict.fromkeys(refusals))


def unwritable(folder: Path) -> list[str]:
    """Create the folder if needed, and return why results cannot be written there; empty if they can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder_files.write(folder, _PROBE, b"")
        (folder / _PROBE).unlink()
    except OSError as error:
        return [f"expected a results folder that can be written. Received: {folder} ({error.strerror})."]
    return []


def used(folder: Path) -> list[str]:
    """Return why a new sweep cannot use the folder: it would take the results there for its own. Empty if it can."""
    return [taken(folder)] if any(os.path.lexists(folder / name) for name in (PLAN, RESULTS)) else []


def taken(folder: str | Path) -> str:
    """Return the sentence for a folder that holds another sweep."""
    go_on = shlex.quote(f"resume={command_line.text(str(folder))}")
    return (
        f"expected a new folder for the sweep's results. Received: {folder}, which holds a sweep. "
        f"{go_on} continues that one; a new one needs another hydra.sweep.dir or hydra.run.dir."
    )
