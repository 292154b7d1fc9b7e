"""A sweep's trials as Ray tasks: which wait, which run where, and the result recorded of each."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from sweeps.dispatch import task_queue as queue
from sweeps.dispatch.context import Context, limited
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.dispatch.placing import Placing
from sweeps.dispatch.task_gate import Placements
from sweeps.dispatch.task_job import Job, Tasks, cancel, has_ended, lost_with_ray, outcome
from sweeps.dispatch.waiting import Turn, Waiting
from sweeps.errors import DispatchError
from tracking.record import Result, Trial

_LOOK_AGAIN_S = 0.5
"""How often to look for a node while the remaining trials fit none."""
_GO_ON = "resume=latest runs the rest, cluster=inline without Ray"


class RayDispatch:
    """The trials that wait and the Ray tasks that run: the state of `sweeps.dispatch.loop.on_ray`.

    `start` hands out what the nodes have room for, `collect` waits for the next task to end and yields its result.
    Results come from generators, so that the consumer writes each one before the next trial starts. The work per trial
    does not grow with the number of nodes, waiting trials or running trials.
    """

    def __init__(self, trials: Sequence[Trial], context: Context) -> None:
        self._context = context
        self._fleet = context.fleet or Fleet([Slot(context.node, context.server)])
        self._inbox = self._fleet.inbox
        self._submission = Tasks(context)
        self._waiting = Waiting(trials)
        self._placing = Placing(self._waiting, self._fleet, context.calibration)
        self._placements = Placements(self._inbox.expect, self._began, self._taken_back)
        self._may_queue = False
        """Whether the fleet has looked at the nodes since trials were last queued behind other jobs."""
        self._uncalibrated: set[str] = set()
        """Ids of the nodes that the user has been warned cannot be calibrated."""
        self._running: dict[Any, Job] = {}
        self._tasks: dict[Any, Future[Any]] = {}
        """The future of each running job."""
        self._calibrating = 0
        self._here: list[Slot] = []
        """The node of each job that runs on the driver's machine."""
        self._not_skipped: set[Turn] = set()
        """Turns that are known to have something to run."""
        self._freed: Sequence[int] = ()
        """The cores of the last trial that ended, if the driver may write on them."""
        self._looked_at = time.monotonic()
        self._idle_since: float | None = None
        self._losses = 0
        """How often in a row all of Ray was lost."""
        self._fleet.needs(trials)

    @property
    def unfinished(self) -> bool:
        """Whether a trial waits or runs."""
        return bool(self._waiting) or len(self._running) > self._calibrating

    def start(self) -> Iterator[Result]:
        """Hand out trials, and calibrations that precede them, until no node has room or a result has arrived.

        Yields the results of trials whose turn has come but that need not run.
        """
        while self._waiting:
            yield from self._skip()
            chosen = self._placing.choose(self._calibrating)
            if chosen is None:
                self._queue()
                break
            self._start(*chosen)
            if not self._inbox.empty:
                break

    def collect(self) -> Iterator[Result]:
        """Wait until a task ends or a node answers, and yield the result, if there is one."""
        if not self.unfinished:
            return
        ref = None
        if self._running or self._fleet.waits_for_nodes:
            self._idle_since = None
            ref = self._inbox.next(self._fleet.look_every_s)
        elif queue.held_up(self._waiting, self._placing, self._placements):
            self._may_queue = True
        else:
            self._wait_for_a_node()
        self._look()
        if ref in self._running:
            yield from self._end(ref)
        elif ref is not None and not self._placements.heard(ref):
            self._fleet.heard(ref)

    def lost(self) -> str | None:
        """Return why no running task will ever report back, as a clause for a message; None: they will."""
        return self._fleet.lost()

    def cut_off(self) -> bool:
        """Return whether an error of Ray's means that all of it is `lost`."""
        return self._fleet.cut_off()

    def recover(self, why: str) -> Iterator[Result]:
        """Yield the results of tasks that ended before all of Ray was lost, and restart Ray for the rest.

        Raises DispatchError if that has failed too often.
        """
        for ref in list(self._running):
            ended = has_ended(self._tasks[ref])
            if ref in self._placements and not ended:
                self._taken_back(ref)  # as far as is known it had not started, so this was no try
            else:
                yield from self._end(ref, None if ended else why)
        self._placements.clear()
        self._losses += 1
        if self._losses > self._context.retries + 1:
            raise DispatchError(f"{why}, and so were {self._losses - 1} before it. {_GO_ON}")
        if self._waiting:
            self._context.warn(f"{why}; {self._fleet.revival}")
            self._fleet.revive()
            self._submission.register()

    def cancel(self) -> None:
        """End what still runs."""
        import ray

        if not ray.is_initialized() or self._fleet.lost():
            return
        cancel(self._running)

    def _skip(self) -> Iterator[Result]:
        """Remove the trials that are next but need not run, and yield their results."""
        while new := [turn for turn in self._waiting.heads() if turn not in self._not_skipped]:
            for turn in new:
                limit = self._context.limit(turn.trial)
                if limit is None or limit.passes:
                    self._not_skipped.add(turn)
                    continue
                self._waiting.remove(turn)
                with _on_cores(self._freed if self._running else ()):
                    yield self._context.skipped(turn.trial, limit.reason)

    def _queue(self) -> None:
        """Queue trials behind other jobs on the nodes that those hold, once per look."""
        if not self._may_queue:
            return
        self._may_queue = False
        while (behind := queue.behind_others(self._waiting, self._placing, self._placements)) is not None:
            self._start(*behind, queued=True)

    def _start(self, turn: Turn, slot: Slot, *, queued: bool = False) -> None:
        """Hand out the trial, or the calibration that it needs first on that node; `queued`: behind others there."""
        calibration = self._context.calibration
        first = calibration.preceding(turn.trial, slot.node.node_id) if calibration else None
        if first and slot.shares(turn.trial.device):
            first = None
            self._warn_uncalibrated(slot)
        job = Job(first, slot, None) if first else Job(turn.trial, slot, turn, self._context.limit(turn.trial))
        spared = 0 if slot.needs_all(job.trial.device) else self._fleet.keeps(slot)
        token = self._placements.token()
        ref = self._submission.submit(job, token, spared=spared)  # if this fails, the trial goes on waiting
        slot.take(job.device, queued=queued)
        if job.turn:
            self._waiting.remove(turn)
            self._not_skipped.discard(turn)
            if not queued:
                self._context.started(turn.trial)
        else:
            self._calibrating += 1
        if slot.local:
            self._here.append(slot)
        self._running[ref] = job
        self._tasks[ref] = self._inbox.expect(ref)
        self._placements.add(ref, job, token, queued=queued)

    def _warn_uncalibrated(self, slot: Slot) -> None:
        """Warn, once per node, that it cannot be calibrated."""
        if slot.node.node_id not in self._uncalibrated:
            self._uncalibrated.add(slot.node.node_id)
            self._context.warn(
                f"{slot.node.name}: other jobs of the cluster hold part of it, so it is not calibrated, and the rates "
                f"of its trials are not compared with its limits"
            )

    def _began(self, job: Job) -> None:
        """Note that a trial has started that waited behind others."""
        job.slot.begin(job.device)
        if job.turn:
            self._context.started(job.trial)

    def _taken_back(self, ref: Any) -> None:
        """Put a trial that had not started, and now will not, back into the queue."""
        import ray

        job = self._forget(ref)
        if job.turn:
            self._context.withdrawn(job.trial)
            self._waiting.add_first(job.turn)
        if self._fleet.lost() is None:
            with contextlib.suppress(Exception):  # the cluster may be gone
                ray.cancel(ref, force=True)

    def _forget(self, ref: Any) -> Job:
        """Release what a job had of its node, and return the job."""
        job = self._running.pop(ref)
        del self._tasks[ref]
        if job.slot.local:
            self._here.remove(job.slot)
        if job.turn is None:
            self._calibrating -= 1
        job.slot.give_back(job.device, queued=self._placements.remove(ref))
        return job

    def _end(self, ref: Any, gone: str | None = None) -> Iterator[Result]:
        """Yield the result of a job that has ended, or is `gone` with Ray; nothing if it is tried again."""
        job, context = self._running[ref], self._context
        result, lost = lost_with_ray(job, gone, context) if gone else outcome(self._tasks[ref], job, context)
        if result is not None and job.turn is None:
            context.calibrated(result, lost, job.slot.node)
        self._forget(ref)
        if lost:
            self._fleet.suspect(job.slot)
        else:
            self._losses = 0
        if job.turn is None:
            return
        if result is None:
            context.withdrawn(job.trial)
            self._waiting.add_first(job.turn)
            return
        final = context.final(result, lost, len(job.turn.lost), job.turn.lost)
        if final is None:
            where = f"{job.slot.node.name}: {result.error.message if result.error else ''}"
            again = replace(job.turn, lost=(*job.turn.lost, where), avoid=job.turn.avoid | {job.slot.node.node_id})
            # The trial that killed Ray must show itself before all others have died with it.
            (self._waiting.add_first if gone else self._waiting.add)(again)
            return
        self._freed = self._fleet.writing_cores(final, job.slot, self._here)
        with _on_cores(self._freed):
            yield limited(final, job.limit)
        if final.status == "oom":
            self._not_skipped.clear()

    def _look(self) -> None:
        """Have the fleet look at its nodes, every `look_every_s`."""
        every_s = self._fleet.look_every_s
        if every_s is not None and time.monotonic() - self._looked_at >= every_s:
            self._fleet.look()
            self._looked_at = time.monotonic()
            if self._fleet.lost() is None:
                self._look_at_others()

    def _look_at_others(self) -> None:
        """Ask which trials have started, move those that wait in vain, and report what trials wait for."""
        if not self._waiting:
            self._fleet.needs(job.trial for job in self._running.values() if job.turn)
        self._placements.look()
        self._may_queue = True
        if self._placements.queued() and self._placing.choose(self._calibrating) is None:
            self._placements.take_back(queue.movable(self._waiting, self._placing, self._placements))
        if self._placements.queued() or any(slot.held for slot in self._fleet.slots):
            self._context.held_up(queue.held_up(self._waiting, self._placing, self._placements))
        else:
            self._context.held_up("")

    def _wait_for_a_node(self) -> None:
        """Sleep a moment while no node fits. Raises DispatchError when that has lasted for `wait_s`."""
        now, wait_s = time.monotonic(), self._fleet.wait_s
        devices_left = ", ".join(dict.fromkeys(turn.trial.device.label for turn in self._waiting.heads()))
        left = f"{len(self._waiting)} trial{'s' * (len(self._waiting) != 1)} ({devices_left})"
        if self._idle_since is None:
            self._idle_since = now
            if wait_s:
                self._context.warn(f"no node is left for {left}; waiting up to {wait_s:g} s for one")
        if now - self._idle_since >= wait_s:
            raise DispatchError(f"no node came within {wait_s:g} s for {left}. resume=latest runs them when one does")
        time.sleep(min(_LOOK_AGAIN_S, wait_s))


@contextlib.contextmanager
def _on_cores(freed: Sequence[int]) -> Iterator[None]:
    """Keep this thread on the cores that the last trial used, so that it disturbs no trial that is being timed."""
    before = os.sched_getaffinity(0)
    if freed:
        with contextlib.suppress(OSError):  # the cores are those that a trial has reported
            os.sched_setaffinity(0, freed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
