"""What every trial of a sweep shares, and what becomes of a trial's result before it is recorded."""

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
    """What every trial of a sweep shares."""

    sweep_id: str
    folder: Path
    server: Callable[[], str]
    """Gives the address of a fork server that is there now, on this machine."""
    node: Node
    fleet: Fleet | None = None
    """The nodes that trials run on; None: this machine alone, as `node` says."""
    calibration: Calibration | None = None
    """What devices can do is measured for it, before a trial on a node where that is not known."""
    retries: int = 1
    """How often a trial is tried again that has lost its worker, its node or its fork server."""
    started: Callable[[Trial], None] = field(default=lambda _: None)
    """Called by the driver when a trial has been handed out."""
    withdrawn: Callable[[Trial], None] = field(default=lambda _: None)
    """Called by the driver when a trial that has been handed out and had not started waits again."""
    held_up: Callable[[str], None] = field(default=lambda _: None)
    """Called by the driver, again and again, with what trials wait for that others hold; empty: nothing."""
    retrying: Callable[[Result], None] = field(default=lambda _: None)
    """Called by the driver with what became of a trial that is about to be tried again."""
    limit: Callable[[Trial], Limit | None] = field(default=lambda _: None)
    """What is left of a trial that is next; it then is `oom` for the reason why the rest is not run."""
    warn: Callable[[str], None] = field(default=lambda _: None)
    """Called by the driver with what the user should know."""

    def log(self, trial: Trial) -> Path:
        """Where the trial's own words are found."""
        return TrialFolder.within(self.folder, trial.trial_id).log

    def final(self, result: Result, lost: bool, attempt: int, before: Sequence[str] = ()) -> Result | None:
        """The result to be recorded; None: the trial is to be tried again. `before` says where it was lost already."""
        if not lost or result.error is None:
            return result
        if attempt < self.retries:
            self.retrying(result)
            return None
        message = f"{result.error.message} (tries: {attempt + 1})"
        detail = "\n".join([result.error.detail, *(f"before: {where}" for where in before)])
        return replace(result, error=replace(result.error, message=message, detail=detail))

    def skipped(self, trial: Trial, reason: Failure) -> Result:
        """The result of a trial that is not run."""
        return Result(trial=trial, sweep_id=self.sweep_id, status="oom", started_at=time.time(), error=reason)

    def calibrated(self, result: Result, lost: bool, node: Node) -> None:
        """Take what a calibration has found; one that was lost is measured again, as often as a trial would be."""
        if self.calibration and lost and self.calibration.lost(result, node.node_id) <= self.retries:
            return
        if self.calibration and (sentence := self.calibration.note(result, node.node_id)):
            self.warn(f"{node.name}: {sentence}" if node.node_id else sentence)


def server_lost(result: Result) -> bool:
    """Whether the trial was lost with its fork server."""
    return result.status == "crashed" and result.error is not None and result.error.kind == LOST


def limited(result: Result, limit: Limit | None) -> Result:
    """The result of a trial of which only a part was run."""
    return replace(result, status="oom", error=limit.reason) if limit and result.ok else result
