"""A job as a Ray task: handed to its node, cancelled, and turned into a result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from sweeps.dispatch.context import Context, server_lost
from sweeps.dispatch.fleet import Slot
from sweeps.dispatch.waiting import Turn
from sweeps.errors import DispatchError
from sweeps.machine import node
from sweeps.plan.stopping import Limit
from sweeps.worker import on_node
from sweeps.worker.on_node import Place
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Failure, Pass, Result, Status, Trial
from tracking.schema.device import Device

_CANCEL_S = 5.0
"""How long tasks that are cancelled may take to end, seconds."""
_CANCEL_AGAIN_S = 0.2


@dataclass(frozen=True, eq=False)
class Job:
    """What runs on a node: a trial in its turn or, without one, a calibration."""

    trial: Trial
    slot: Slot
    turn: Turn | None
    limit: Limit | None = None

    @property
    def device(self) -> Device:
        """What it takes of the node: a calibration takes all of it, since trials beside it would change the figures."""
        device = self.trial.device
        return device if self.turn else replace(device, exclusive_node=True)


class Tasks:
    """Hands jobs to Ray as tasks, each pinned to its node."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.register()

    def register(self) -> None:
        """Register the task's function with the Ray that is connected now; another one does not know it."""
        import ray

        self._function = ray.remote(_run)

    def submit(self, job: Job, token: str, *, spared: int) -> Any:
        """Submit the job, which its node's gate knows by `token`, and return Ray's reference of its task.

        `spared` is the number of the node's cores that no trial gets. Raises what Ray raises.
        """
        slot = job.slot
        place = Place(
            server=slot.server(), node=slot.node, folder=self._context.folder if slot.local else None, spared=spared
        )
        options = {"max_retries": 0, "name": job.trial.model, **node.ray_options(job.device, slot.node), **_on(slot)}
        passes = job.limit.passes if job.limit else job.trial.passes
        arguments = (job.trial, self._context.sweep_id, place, passes, slot.gate, token)
        return self._function.options(**options).remote(*arguments)


def cancel(refs: Iterable[Any]) -> None:
    """End the tasks with these references, waiting for their end at most `_CANCEL_S`."""
    import ray

    left, until = list(refs), time.monotonic() + _CANCEL_S
    with contextlib.suppress(Exception):  # the cluster may be gone
        while left and time.monotonic() < until:
            # Ray neither cancels a task that has reached its worker but not begun, nor tries again by itself.
            for ref in left:
                ray.cancel(ref, force=True)
            _, left = ray.wait(left, num_returns=len(left), timeout=_CANCEL_AGAIN_S, fetch_local=False)


def _on(slot: Slot) -> dict[str, Any]:
    """Return Ray's option that pins a task to a node."""
    if not slot.node.node_id:
        return {}
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(slot.node.node_id, soft=False)}


def _run(
    trial: Trial, sweep_id: str, place: Place, passes: tuple[Pass, ...], gate: Any, token: str
) -> tuple[Result | None, bytes]:
    import ray

    if not _may_start(gate, token):
        return None, b""

    return on_node.run(trial, sweep_id, place, passes, tuple(str(gpu) for gpu in ray.get_gpu_ids()))


def _may_start(gate: Any, token: str) -> bool:
    """Return whether this task may start, according to its node's gate. If the gate is gone, it may not."""
    import ray

    if gate is None:
        return True
    try:
        return bool(ray.get(gate.enter.remote(token)))
    except ray.exceptions.RayError:
        return False


def has_ended(task: Future[Any]) -> bool:
    """Return whether a task has ended, one way or another, and is not merely cut off from the driver."""
    return task.done() and not isinstance(task.exception(), ConnectionError)


def outcome(task: Future[Any], job: Job, context: Context) -> tuple[Result | None, bool]:
    """Return the result of a job whose task has ended, and whether it was lost through no fault of its own.

    The result is None if it did not start because its gate was gone.
    """
    import ray

    facts = job.slot.node.facts

    def ended(status: Status, kind: str, message: str, error: Exception) -> Result:
        failure = Failure(kind=kind, message=message, detail=str(error))
        return Result(trial=job.trial, sweep_id=context.sweep_id, status=status, error=failure, host=facts)

    try:
        result, parcel = task.result()
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
    if result is None:
        return None, True
    if parcel:
        reasons = on_node.unpack(parcel, TrialFolder.within(context.folder, job.trial.trial_id))
        result = replace(result, quality=(*result.quality, *reasons))
    host = {**facts, **result.host}
    if job.turn is not None and job.turn.lost:
        host["lost_before"] = "; ".join(job.turn.lost)
    return replace(result, host=host), server_lost(result)


def lost_with_ray(job: Job, why: str, context: Context) -> tuple[Result, bool]:
    """Return the `outcome` of a job that was lost together with all of Ray."""
    failure = Failure(kind="RayLost", message=why)
    facts = job.slot.node.facts
    result = Result(trial=job.trial, sweep_id=context.sweep_id, status="crashed", error=failure, host=facts)
    return result, True
