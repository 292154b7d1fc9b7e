"""The folder in which a sweep's command was typed: what its relative paths mean, and where its own modules are.

A new sweep's plan keeps it. For plans of older versions, and projects that were moved since, it is derived again.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from sweeps.process import paths
from sweeps.typed import input_paths
from tracking.folder.folders import ROOTS
from tracking.record import Sweep

FACT = "started_in"
"""The plan's fact that holds it."""

log = logging.getLogger(__name__)


def folder(sweep: Sweep) -> Path:
    """Return where the sweep's command was typed; the current folder where that is unknown or does not exist now."""
    started_in = sweep.facts.get(FACT)
    place = Path(started_in) if isinstance(started_in, str) and started_in.startswith("/") else _above(sweep.folder)
    return place if place is not None and paths.is_folder(place) else Path.cwd()


def follow(sweep: Sweep, planned: Sweep) -> Sweep:
    """Return the sweep with absolute paths, in its project's new place if that was moved since it was `planned`."""
    before = planned.facts.get(FACT)
    if not isinstance(before, str):  # a plan of an older version
        here = folder(sweep)
        return replace(sweep, trials=tuple(input_paths.absolute(trial, here) for trial in sweep.trials))
    here = Path(os.path.normpath(Path(sweep.folder, os.path.relpath(before, planned.folder))))
    if sweep.folder == planned.folder or Path(before).exists() or not here.is_dir():
        return sweep
    log.warning("the sweep was started in %s, which does not exist now: its relative paths start from %s", before, here)
    trials = tuple(input_paths.moved(trial, here) for trial in sweep.trials)
    return replace(sweep, trials=trials, facts={**sweep.facts, FACT: str(here)})


def _above(folder: str) -> Path | None:
    """Return the folder above `multirun/` or `outputs/`, where Hydra makes a sweep's folder by default."""
    parents = Path(folder).parents
    return next((place.parent for place in parents if place.name in ROOTS), None)
