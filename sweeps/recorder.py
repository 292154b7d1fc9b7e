"""Keeps a sweep's results: in the journal first, then in the sinks, and at the end in plots, tables and a report."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sweeps.errors import UsageError
from sweeps.plan.checks import taken
from tracking.folder.journal import PLAN, RESULTS, Journal, JournalError
from tracking.record import Result, Sweep, Trial
from tracking.sinks.outbox import Outbox

_FLUSH_S = 2.0
"""Longest time that slow sinks may hold the sweep up between two trials, seconds."""


class Recorder:
    """The results of one sweep by trial id, each on disk before it goes anywhere else."""

    def __init__(self, sweep: Sweep, outbox: Outbox) -> None:
        """Lock the sweep's folder. Raises UsageError if another process is writing there, or it holds another sweep."""
        self.sweep = sweep
        self.journal = Journal(sweep.folder)
        try:
            self.journal.lock()
            if self._taken():
                raise JournalError(taken(sweep.folder))
            self.results: dict[str, Result] = {result.trial_id: result for result in self.journal.read()}
            self.journal.write_plan(sweep)
        except JournalError as error:
            self.journal.close()
            raise UsageError([str(error)]) from error
        self.outbox = outbox

    def _taken(self) -> bool:
        """Return whether another sweep has been written to the folder since it was checked."""
        try:
            return self.journal.read_plan().sweep_id != self.sweep.sweep_id
        except JournalError:
            return any(os.path.lexists(self.journal.folder / name) for name in (PLAN, RESULTS))

    def extend(self, trials: Sequence[Trial]) -> None:
        """Add the trials that are not in the plan yet, as an optimising sweeper proposes them."""
        planned = {trial.trial_id for trial in self.sweep.trials}
        if added := [trial for trial in trials if trial.trial_id not in planned]:
            self.sweep = replace(self.sweep, trials=(*self.sweep.trials, *added))
            self.journal.write_plan(self.sweep)

    @property
    def all_ok(self) -> bool:
        """Whether every planned trial has an ok result."""
        results = (self.results.get(trial.trial_id) for trial in self.sweep.trials)
        return all(result is not None and result.ok for result in results)

    def record(self, result: Result) -> None:
        """Append the result to the journal and queue it for the sinks. Raises JournalError, which ends the sweep."""
        self.journal.append(result)
        self.results[result.trial_id] = result
        self.outbox.write(result)

    def send(self) -> None:
        """Send the sinks the results that they do not have yet."""
        self.outbox.flush(_FLUSH_S)

    def finish(self, warn: Callable[[str], None], *, draw: bool = True) -> None:
        """Draw the plots, write the report and close the sinks. Failures are warnings: the journal has everything."""
        results = [self.results[t.trial_id] for t in self.sweep.trials if t.trial_id in self.results]
        if draw:
            self._draw(results, warn)
        self.outbox.close(self.sweep, results)
        self.journal.close()

    def _draw(self, results: Sequence[Result], warn: Callable[[str], None]) -> None:
        folder = Path(self.sweep.folder)
        try:
            from tracking.plots import sweep_plots
            from tracking.report import (
                html_page,  # matplotlib takes a second that no sweep should wait for at its start
            )

            sweep_plots.draw(self.sweep, results, folder)
            html_page.write(self.sweep, results, folder / "report.html")
        except OSError as error:
            warn(f"the plots and the report could not be written: {error}")
        except Exception as error:
            warn(f"the plots and the report could not be written: {error}\n{traceback.format_exc()}")
