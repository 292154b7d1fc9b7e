"""Trials to workers: `inline` runs them one after another here, `on_ray` as Ray tasks with each trial's own resources.

Both are generators of results in order of completion, and both let the consumer finish with a result before they start
the next trial: what the driver writes then runs on the cores that the trial has just given back or, after a trial on
another machine, on a core that the driver keeps.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeps import devices, host, worker
from sweeps.calibration import Calibration
from sweeps.devices import Node
from sweeps.errors import DispatchError
from sweeps.fleet import Fleet, Slot, Turn, Waiting, choose
from sweeps.isolate import LOST
from sweeps.plan import Limit
from sweeps.worker import Place
from tracking.record import Failure, Pass, Result, Trial

Results = Generator[Result, None, None]
_LOOK_AGAIN_S = 0.5
"""How often to look for a node while none is left that a trial fits."""
_GO_ON = "resume=latest runs the rest, cluster=inline without Ray"


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
    retrying: Callable[[Result], None] = field(default=lambda _: None)
    """Called by the driver with what became of a trial that is about to be tried again."""
    limit: Callable[[Trial], Limit | None] = field(default=lambda _: None)
    """What is left of a trial that is next; it then is `oom` for the reason why the rest is not run."""
    warn: Callable[[str], None] = field(default=lambda _: None)
    """Called by the driver with what the user should know."""

    def log(self, trial: Trial) -> Path:
        """Where the trial's own words are found."""
        return worker.folder_of(trial, self.folder) / "log.txt"


@dataclass(frozen=True)
class _Job:
    """What runs on a node: a trial in its turn or, without one, a calibration."""

    trial: Trial
    slot: Slot
    turn: Turn | None
    limit: Limit | None = None


def inline(trials: Sequence[Trial], context: Context) -> Results:
    """Run the trials one after another, each in a fresh process, without Ray."""
    for trial in trials:
        limit = context.limit(trial)
        if limit and not limit.passes:
            yield _skipped(trial, context, limit.reason)
            continue
        while context.calibration and (first := context.calibration.first(trial, context.node.node_id)):
            _note(found := _run_here(first, context), _server_lost(found), context, context.node)
        for attempt in itertools.count():
            context.started(trial)
            result = _run_here(trial, context, limit)
            if (final := _final(result, _server_lost(result), attempt, (), context)) is not None:
                yield _limited(final, limit)
                break


def on_ray(trials: Sequence[Trial], context: Context) -> Results:
    """Run the trials as Ray tasks; as many at a time as their resources allow. Ray must have been started.

    What still runs when the generator is closed is ended. Raises DispatchError when the cluster is lost, a Ray of our
    own when it is lost time and again, and when for `fleet.wait_s` there is no node that the remaining trials fit.
    """
    import ray

    task = ray.remote(_ray_task)
    fleet = context.fleet or Fleet([Slot(context.node, context.server)])
    waiting = Waiting(trials)
    running: dict[Any, _Job] = {}
    freed: Sequence[int] = ()
    look_for_skips = True
    looked = time.monotonic()
    idle_since: float | None = None
    losses = 0

    def usable(trial: Trial, slot: Slot) -> bool:
        """Whether the trial, or its calibration, can be started on a node with room for it.

        A calibration has its node to itself: what a device can do is not what it does beside others.
        """
        calibrating = [job.slot for job in running.values() if job.turn is None]
        if slot in calibrating:
            return False
        if context.calibration is None or context.calibration.first(trial, slot.node.node_id) is None:
            return True
        return not slot.busy and len(calibrating) < len(waiting)

    def start(turn: Turn, slot: Slot) -> None:
        first = context.calibration and context.calibration.first(turn.trial, slot.node.node_id)
        job = _Job(first, slot, None) if first else _Job(turn.trial, slot, turn, context.limit(turn.trial))
        device = job.trial.device
        place = Place(
            server=slot.server(),
            node=slot.node,
            folder=context.folder if slot.local else None,
            spared=0 if slot.needs_all(device) else fleet.keeps(slot),
        )
        slot.take(device)
        if not first:
            waiting.remove(turn)
            context.started(turn.trial)
        options = {"max_retries": 0, "name": job.trial.model, **devices.ray_options(device, slot.node), **_on(slot)}
        passes = job.limit.passes if job.limit else job.trial.passes
        running[task.options(**options).remote(job.trial, context.sweep_id, place, passes)] = job

    def skipped(trial: Trial) -> Failure | None:
        limit = context.limit(trial)
        return limit.reason if limit and not limit.passes else None

    def ended(ref: Any, gone: str | None) -> Iterator[Result]:
        """What is to be recorded of a job that has ended or is `gone` with all of Ray; nothing if it is tried again."""
        nonlocal freed, look_for_skips, losses
        job = running.pop(ref)
        result, lost = _gone(job, gone, context) if gone else _fetch(ref, job, fleet, context)
        job.slot.give_back(job.trial.device)
        if lost:
            fleet.suspect(job.slot)
        else:
            losses = 0
        if job.turn is None:
            _note(result, lost, context, job.slot.node)
            return
        final = _final(result, lost, len(job.turn.lost), job.turn.lost, context)
        if final is None:
            where = f"{job.slot.node.name}: {result.error.message if result.error else ''}"
            avoid = job.turn.avoid | {job.slot.node.node_id}
            # What has killed Ray is to be found out before all others have died with it.
            (waiting.add_first if gone else waiting.add)(replace(job.turn, lost=(*job.turn.lost, where), avoid=avoid))
            return
        freed = fleet.writing_cores(final, job.slot, [other.slot for other in running.values()])
        with _on_cores(freed):
            yield _limited(final, job.limit)
        look_for_skips = final.status == "oom"

    try:
        while waiting or any(job.turn for job in running.values()):
            if look_for_skips:
                for trial, reason in waiting.drop(skipped):
                    with _on_cores(freed if running else ()):
                        yield _skipped(trial, context, reason)
                look_for_skips = False
                continue
            if (gone := fleet.lost()) is not None:
                whole, _ = ray.wait(list(running), num_returns=len(running), timeout=0) if running else ([], [])
                for ref in list(running):
                    yield from ended(ref, None if ref in whole else gone)
                losses += 1
                if losses > context.retries + 1:
                    raise DispatchError(f"{gone}, and so were {losses - 1} before it. {_GO_ON}")
                if waiting:
                    context.warn(f"{gone}; it is started again")
                    fleet.revive()
                continue
            while (chosen := choose(waiting, fleet, usable)) is not None:
                start(*chosen)
            asked = fleet.pending()
            if running or asked:
                idle_since = None
                done, _ = ray.wait([*running, *asked], num_returns=1, timeout=fleet.look_every_s)
            else:
                idle_since = _wait_for_a_node(idle_since, waiting, fleet, context)
                done = []
            if fleet.look_every_s is not None and time.monotonic() - looked >= fleet.look_every_s:
                fleet.look()
                looked = time.monotonic()
            for ref in done:
                if ref in running:
                    yield from ended(ref, None)
                else:
                    fleet.heard(ref)
    except ConnectionError as error:
        raise DispatchError(f"the connection to the Ray cluster is lost: {error}") from error
    finally:
        if ray.is_initialized():
            for ref in [] if fleet.lost() else running:
                with contextlib.suppress(Exception):  # the cluster may be gone
                    ray.cancel(ref, force=True)


def _on(slot: Slot) -> dict[str, Any]:
    """Ray's argument that puts a task on a node and no other."""
    if not slot.node.node_id:
        return {}
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(slot.node.node_id, soft=False)}


def _wait_for_a_node(since: float | None, waiting: Waiting, fleet: Fleet, context: Context) -> float:
    """Sleep a moment; since when nothing could be done. Raises DispatchError when that is too long ago."""
    now = time.monotonic()
    devices_left = ", ".join(dict.fromkeys(turn.trial.device.label for turn in waiting.heads()))
    what = f"{len(waiting)} trial{'s' * (len(waiting) != 1)} ({devices_left})"
    if since is None:
        since = now
        if fleet.wait_s:
            context.warn(f"no node is left for {what}; waiting {fleet.wait_s:g} s for one")
    if now - since >= fleet.wait_s:
        raise DispatchError(f"no node came in {fleet.wait_s:g} s for {what}. resume=latest runs them when there is one")
    time.sleep(min(_LOOK_AGAIN_S, fleet.wait_s))
    return since


def _fetch(ref: Any, job: _Job, fleet: Fleet, context: Context) -> tuple[Result, bool]:
    """What a Ray task has come to, and whether it was lost through no fault of its own."""
    import ray

    facts = job.slot.node.facts

    def ended(status: Any, kind: str, message: str, error: Exception) -> Result:
        failure = Failure(kind=kind, message=message, detail=str(error))
        return Result(trial=job.trial, sweep_id=context.sweep_id, status=status, error=failure, host=facts)

    try:
        result, parcel = _get(ref, fleet)
    except ray.exceptions.RayTaskError as error:
        if job.slot.local:
            raise DispatchError(f"a worker failed outside its trial: {error.cause or error}") from error
        return ended("crashed", "WorkerFailed", f"the worker failed: {error.cause}", error), True
    except ray.exceptions.OutOfMemoryError as error:
        return ended("oom", "OutOfMemoryError", "Ray ended the worker: out of memory", error), False
    except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError) as error:
        return ended("crashed", type(error).__name__, f"{job.slot.node.name} died", error), True
    except ray.exceptions.RayError as error:
        return ended("crashed", type(error).__name__, "the worker died", error), True
    if parcel:
        reasons = worker.unpack(parcel, worker.folder_of(job.trial, context.folder))
        result = replace(result, quality=(*result.quality, *reasons))
    host = {**facts, **result.host}
    if job.turn is not None and job.turn.lost:
        host["lost_before"] = "; ".join(job.turn.lost)
    return replace(result, host=host), _server_lost(result)


def _get(ref: Any, fleet: Fleet) -> Any:
    """What a task has returned. It may still have to come from its node, and the cluster may be lost meanwhile."""
    import ray

    while True:
        try:
            return ray.get(ref, timeout=fleet.look_every_s)
        except ray.exceptions.GetTimeoutError:
            fleet.look()
            if (gone := fleet.lost()) is not None:
                raise ray.exceptions.RaySystemError(gone) from None


def _gone(job: _Job, why: str, context: Context) -> tuple[Result, bool]:
    """What has become of a job with whose Ray everything was lost."""
    failure = Failure(kind="RayLost", message=why)
    facts = job.slot.node.facts
    result = Result(trial=job.trial, sweep_id=context.sweep_id, status="crashed", error=failure, host=facts)
    return result, True


def _server_lost(result: Result) -> bool:
    return result.status == "crashed" and result.error is not None and result.error.kind == LOST


def _final(result: Result, lost: bool, attempt: int, before: Sequence[str], context: Context) -> Result | None:
    """The result to be recorded; None: the trial is to be tried again."""
    if not lost or result.error is None:
        return result
    if attempt < context.retries:
        context.retrying(result)
        return None
    message = f"{result.error.message} (tries: {attempt + 1})"
    detail = "\n".join([result.error.detail, *(f"before: {where}" for where in before)])
    return replace(result, error=replace(result.error, message=message, detail=detail))


def _skipped(trial: Trial, context: Context, reason: Failure) -> Result:
    return Result(trial=trial, sweep_id=context.sweep_id, status="oom", started_at=time.time(), error=reason)


def _limited(result: Result, limit: Limit | None) -> Result:
    """The result of a trial of which only a part was run."""
    return replace(result, status="oom", error=limit.reason) if limit and result.ok else result


def _note(result: Result, lost: bool, context: Context, node: Node) -> None:
    """Take what a calibration has found; one that was lost is measured again, as often as a trial would be."""
    if context.calibration and lost and context.calibration.lost(result, node.node_id) <= context.retries:
        return
    if context.calibration and (sentence := context.calibration.note(result, node.node_id)):
        context.warn(f"{node.name}: {sentence}" if node.node_id else sentence)


def _run_here(trial: Trial, context: Context, limit: Limit | None = None) -> Result:
    place = Place(server=context.server(), node=context.node, folder=context.folder)
    passes = limit.passes if limit else trial.passes
    return worker.run(trial, context.sweep_id, place, passes, host.gpu_ids(trial.device.gpus))[0]


def _ray_task(trial: Trial, sweep_id: str, place: Place, passes: tuple[Pass, ...]) -> tuple[Result, bytes]:
    import ray

    return worker.run(trial, sweep_id, place, passes, tuple(str(gpu) for gpu in ray.get_gpu_ids()))


@contextlib.contextmanager
def _on_cores(freed: Sequence[int]) -> Iterator[None]:
    """Keep this thread on the cores that a trial has given back while other trials are being timed."""
    before = os.sched_getaffinity(0)
    if freed:
        with contextlib.suppress(OSError):  # cores as a trial has reported them
            os.sched_setaffinity(0, freed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
