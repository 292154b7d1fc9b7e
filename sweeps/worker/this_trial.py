"""The folder of the trial that this process runs, which finds it in its environment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tracking.folder.trial_folder import TrialFolder

_VARIABLE = "SWEEPS_TRIAL_FOLDER"


def environment(folder: TrialFolder) -> dict[str, str]:
    """Return the variables with which the process of the trial in `folder` finds it."""
    return {_VARIABLE: str(folder.path)}


def folder() -> TrialFolder:
    """Return the trial's folder. Raises RuntimeError outside a trial's process."""
    path = os.environ.get(_VARIABLE)
    if path is None:
        raise RuntimeError(f"expected the process of a trial. Received: {_VARIABLE} is not set")
    return TrialFolder(Path(path))


def files() -> Path:
    """Return the trial's `files`, made if need be. Raises RuntimeError outside a trial's process."""
    place = folder().files
    place.mkdir(parents=True, exist_ok=True)
    return place


def clear_files() -> None:
    """Remove what an earlier try of the trial has left in `files`."""
    shutil.rmtree(files())


def checkpoints() -> Path:
    """Return the trial's `checkpoints`, made if need be."""
    place = folder().checkpoints
    place.mkdir(parents=True, exist_ok=True)
    return place
