"""Finds the sweeps below a folder, and the one that a name means."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracking.folder.journal import PLAN, Journal, JournalError
from tracking.text.printable import printable

ROOTS = ("multirun", "outputs")
"""Where Hydra puts the folders of commands with `-m` and without it."""
LATEST = "latest"

log = logging.getLogger(__name__)


def sweep_folders(cwd: Path) -> Iterator[Path]:
    """Every folder with a plan under `cwd`'s roots, in the order of their paths."""
    for root in ROOTS:
        for place, inner, names in os.walk(cwd / root):
            inner.sort()
            if PLAN in names:
                inner.clear()  # a sweep's own folders are many, and hold no other sweep
                yield Path(place)


def find(name: str, cwd: Path) -> Path:
    """The sweep's folder that `name` means: a path, a sweep's id or an unambiguous prefix of it, or `latest`.

    Raises JournalError, also for a sweep whose plan cannot be read.
    """
    if os.path.lexists(cwd / name / PLAN):
        return cwd / name
    folders = list(sweep_folders(cwd))
    if name == LATEST and folders:
        return _latest(folders)
    known: dict[str, Path] = {}
    for folder in folders:
        with contextlib.suppress(JournalError):  # a damaged plan of another sweep
            known[Journal(folder).read_plan().sweep_id] = folder
    matches = [name] if name in known else [sweep_id for sweep_id in known if name and sweep_id.startswith(name)]
    if len(matches) == 1:
        return known[matches[0]]
    if matches:
        raise JournalError(f"expected one sweep. Received: {name!r}, which begins {', '.join(sorted(matches))}")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise JournalError(
        f"expected a sweep's folder, its id under {' or '.join(ROOTS)}, or {LATEST!r}. Received: {name!r}{hint}"
    )


def _latest(folders: Sequence[Path]) -> Path:
    """The folder with the newest readable plan; an unreadable one is skipped with a warning."""
    problems: list[JournalError] = []
    for folder in sorted(folders, key=_planned_at, reverse=True):
        try:
            Journal(folder).read_plan()
        except JournalError as error:
            problems.append(error)
            continue
        for problem in problems:
            log.warning("not the latest sweep: %s", printable(str(problem)))
        return folder
    raise problems[0]


def _planned_at(folder: Path) -> float:
    """When the plan was written; 0 where it is no file, or gone by now."""
    try:
        status = (folder / PLAN).stat()
    except OSError:
        return 0.0
    return status.st_mtime if stat.S_ISREG(status.st_mode) else 0.0
