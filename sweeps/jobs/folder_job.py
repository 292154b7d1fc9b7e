"""A batch job that sees this machine's files: it resumes the sweep, whose plan is in its folder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sweeps.errors import UsageError
from sweeps.jobs.job import BatchJob, Job, Order, RefusedError, unprintable
from sweeps.typed import command_line
from tracking.folder import files
from tracking.folder.journal import DRIVER_LOCK, PLAN, RESULTS, Journal
from tracking.record import Sweep


class Resumption(NamedTuple):
    """What a job runs that sees this machine's files: the sweep whose plan lies in its folder."""

    sweep: Sweep
    settings: Sequence[str]
    """The words of the command besides `resume=` and `cluster=`."""
    environment: Mapping[str, str]
    """Variables that the job needs and that its script must not show."""


@dataclass
class FolderJob(BatchJob):
    """A batch system that sees this machine's files. Its job resumes the sweep, whose folder `planned` has prepared."""

    def sweep_problems(self, sweep: Sweep) -> list[str]:
        """Return what of the sweep's id and folder the batch system cannot take."""
        del sweep
        return []

    def folder_job(self, resumption: Resumption) -> Job:
        """Make the job that runs the resumption. Raises UsageError for what it cannot hold."""
        raise NotImplementedError

    def job(self, order: Order) -> Job:
        sweep = order.sweep
        assert sweep is not None, "a sweep that is resumed has its folder on this machine"
        settings, environment = command_line.as_composed(order.values)
        environment[command_line.IN_JOB] = sweep.sweep_id  # by which the plan keeps the cluster that it was begun with
        texts = {
            "the sweep's folder": sweep.folder,
            "the current folder": str(Path.cwd()),
            "this Python's folder": sys.prefix,
            **{argument.partition("=")[0]: argument for argument in settings},
        }
        if problems := [*unprintable(texts), *self.sweep_problems(sweep)]:
            raise UsageError(problems)
        return self.folder_job(Resumption(sweep, settings, environment))


@contextlib.contextmanager
def planned(sweep: Sweep, name: str, script: str) -> Iterator[Path]:
    """Write the plan and a script of that name into the sweep's folder for the body, in which the job is submitted.

    If the body raises RefusedError, everything is as it was before.
    """
    folder = Path(sweep.folder)
    path = folder / name
    before = files.read(folder, name) if path.is_file() else None
    new = not (folder / PLAN).is_file()
    if new:
        with Journal(folder) as journal:
            journal.write_plan(sweep)
    files.write(folder, name, script.encode())
    try:
        yield path
    except RefusedError:
        if before is not None:
            files.write(folder, name, before)
        for each in (name,) * (before is None) + (PLAN, RESULTS, DRIVER_LOCK) * new:
            (folder / each).unlink(missing_ok=True)
        raise
