"""What all trials of a sweep share, and what happens to a trial's result before it is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sweeps.dispatch.calibration import Calibration
from sweeps.dispatch.fleet import Fleet
from sweeps.machine.node import Node
from sweeps.plan.stopping import Limit
from sweeps.worker.isolate import LOST
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Failure, Result, Trial


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all trials of a sweep share."""

    sweep_id: str
    folder: Path
    server: Callable[[], str]
    """Returns the address of a live fork server on this machine."""
    node: Node
    fleet: Fleet | None = None
    """The nodes that trials run on; None: `node` alone, which is this machine."""
    calibration: Calibration | None = None
    """Has each device measured before its first trial on a node; None: nothing is measured."""
    retries: int = 1
    """How often a trial that has lost its worker, node or fork server is tried again."""
    started: Callable[[Trial], None] = field(default=lambda _: None)
    """Called by the driver when a trial has been handed out."""
    withdrawn: Callable[[Trial], None] = field(default=lambda _: None)
    """Called by the driver when a trial that was handed out but had not started waits again."""
    held_up: Callable[[str], None] = field(default=lambda _: None)
    """Called by the driver, repeatedly, with a message about trials that wait for nodes held by others; empty: none."""
    retrying: Callable[[Result], None] = field(default=lambda _: None)
    """Called by the driver with the result of a trial that is about to be tried again."""
    limit: Callable[[Trial], Limit | None] = field(default=lambda _: None)
    """Returns the passes that the next trial may still run, and why it is recorded as `oom`; None: no limit."""
    warn: Callable[[str], None] = field(default=lambda _: None)
    """Called by the driver with a warning for the user."""

    def log(self, trial: Trial) -> Path:
        """Return the path of the trial's log."""
        return TrialFolder.within(self.folder, trial.trial_id).log

    def final(self, result: Result, lost: bool, attempt: int, before: Sequence[str] = ()) -> Result | None:
        """Return the result to record; None: the trial is tried again. `before` lists where earlier tries were lost."""
        if not lost or result.error is None:
            return result
        if attempt < self.retries:
            self.retrying(result)
            return None
        message = f"{result.error.message} (tries: {attempt + 1})"
        detail = "\n".join([result.error.detail, *(f"before: {where}" for where in before)])
        return replace(result, error=replace(result.error, message=message, detail=detail))

    def skipped(self, trial: Trial, reason: Failure) -> Result:
        """Return the result of a trial that is not run."""
        return Result(trial=trial, sweep_id=self.sweep_id, status="oom", started_at=time.time(), error=reason)

    def calibrated(self, result: Result, lost: bool, node: Node) -> None:
        """Keep the result of a calibration; a lost one is measured again, as often as a trial would be."""
        if self.calibration and lost and self.calibration.lost(result, node.node_id) <= self.retries:
            return
        if self.calibration and (sentence := self.calibration.note(result, node.node_id)):
            self.warn(f"{node.name}: {sentence}" if node.node_id else sentence)


def server_lost(result: Result) -> bool:
    """Return whether the trial was lost with its fork server."""
    return result.status == "crashed" and result.error is not None and result.error.kind == LOST


def limited(result: Result, limit: Limit | None) -> Result:
    """Return the result, which is `oom` if the limit allowed only part of the trial to run."""
    return replace(result, status="oom", error=limit.reason) if limit and result.ok else result
