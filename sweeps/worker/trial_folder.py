"""Where a trial's process leaves files: its own folder within the sweep's, told to it through its environment.

`files/` in it becomes the trial's MLflow artifacts, under the same relative paths; `checkpoints/` stays on the node.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_VARIABLE = "SWEEPS_TRIAL_FOLDER"


def environment(folder: Path) -> dict[str, str]:
    """What the process of the trial in `folder` gets in its environment."""
    return {_VARIABLE: str(folder)}


def files() -> Path:
    """The trial's `files/`, made if need be. Raises RuntimeError outside a trial's process."""
    folder = os.environ.get(_VARIABLE)
    if folder is None:
        raise RuntimeError(f"expected the process of a trial. Received: {_VARIABLE} is not set")
    place = Path(folder) / "files"
    place.mkdir(parents=True, exist_ok=True)
    return place


def clear_files() -> None:
    """Remove what an earlier try of the trial has left in `files/`."""
    shutil.rmtree(files())


def checkpoints() -> Path:
    """The trial's `checkpoints/`, made if need be: what it goes on from when it is run again, on the same machine."""
    place = files().parent / "checkpoints"
    place.mkdir(exist_ok=True)
    return place
