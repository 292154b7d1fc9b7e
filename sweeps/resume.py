"""A sweep's identity: made for a new one, found again for one that was interrupted."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sweeps import host
from sweeps.errors import UsageError
from sweeps.forkserver import ROOT
from tracking import sinks
from tracking.journal import PLAN, Journal, JournalError
from tracking.record import Sweep, Trial
from tracking.redact import redact
from tracking.sinks import Settings

FOLDERS = ("multirun", "outputs")
_HYDRA_FILE = "multirun.yaml"


def new_sweep(
    trials: Sequence[Trial], folder: Path, cluster: str, tracking: Settings, objective: str | None = None
) -> Sweep:
    """A sweep of these trials that begins now; `objective`: the figure by which they are chosen among."""
    now = time.time()
    stamp = datetime.fromtimestamp(now).strftime("%Y%m%d-%H%M%S")  # noqa: DTZ006 - the user's own clock
    facts = host.facts() | {
        "cluster": cluster,
        "tracking": sinks.storable(tracking),
        "git_commit": _git_commit(),
        "objective": objective,
    }
    return Sweep(
        sweep_id=f"{stamp}-{uuid.uuid4().hex[:6]}",
        folder=str(folder),
        command=redact(shlex.join(["python", *sys.argv])),
        created_at=now,
        trials=tuple(trials),
        facts={key: value for key, value in facts.items() if value is not None},
    )


def find(name: str, cwd: Path) -> Sweep:
    """The sweep that `resume=` names: a folder, a sweep id, or `latest` under `cwd`. Raises UsageError."""
    if (cwd / name / PLAN).is_file():
        return _read(cwd / name)
    plans = [path for folder in FOLDERS for path in (cwd / folder).glob(f"*/*/{PLAN}")]
    if name == "latest" and plans:
        return _read(max(plans, key=lambda path: path.stat().st_mtime).parent)
    for path in plans:
        sweep = _read(path.parent)
        if sweep.sweep_id == name:
            return sweep
    where = " or ".join(f"{folder}/" for folder in FOLDERS)
    raise UsageError([f"resume={name}: expected a sweep's folder, its id or `latest`. Received: none such in {where}."])


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of date and time that Hydra makes for every command, where nothing of ours has come into it."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [_HYDRA_FILE]:
            (folder / _HYDRA_FILE).unlink()
        for empty in (folder, *folder.parents):
            if empty == Path.cwd() or not empty.is_relative_to(Path.cwd()):
                return
            empty.rmdir()


def _read(folder: Path) -> Sweep:
    try:
        # The folder may have been moved since.
        return replace(Journal(folder).read_plan(), folder=str(folder.absolute()))
    except JournalError as error:
        raise UsageError([f"resume={folder}: {error}"]) from error


def _git_commit() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
