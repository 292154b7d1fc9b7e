"""What a trial's Ray task has come to: its result, or how it was lost."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from sweeps.dispatch.context import Context, server_lost
from sweeps.dispatch.fleet import Slot
from sweeps.dispatch.waiting import Turn
from sweeps.errors import DispatchError
from sweeps.plan.stopping import Limit
from sweeps.worker import on_node
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Failure, Result, Status, Trial
from tracking.schema.device import Device


@dataclass(frozen=True, eq=False)
class Job:
    """What runs on a node: a trial in its turn or, without one, a calibration."""

    trial: Trial
    slot: Slot
    turn: Turn | None
    limit: Limit | None = None

    @property
    def device(self) -> Device:
        """What it takes of the node: a calibration all of it, since trials beside it would change what it finds."""
        device = self.trial.device
        return device if self.turn else replace(device, exclusive_node=True)


def outcome(task: Future[Any], job: Job, context: Context) -> tuple[Result | None, bool]:
    """What the job's task, which has ended, has come to, and whether it was lost through no fault of its own.

    None: it did not start, as its gate was gone.
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
    """What has become of a job with whose Ray everything was lost."""
    failure = Failure(kind="RayLost", message=why)
    facts = job.slot.node.facts
    result = Result(trial=job.trial, sweep_id=context.sweep_id, status="crashed", error=failure, host=facts)
    return result, True
