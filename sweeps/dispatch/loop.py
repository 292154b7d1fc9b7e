"""Runs trials: `inline` one after another here, `on_ray` as Ray tasks with each trial's own resources.

Both are generators of results in order of completion, and both let the consumer finish with a result before they start
the next trial: what the driver writes then runs on the cores that the trial has just given back or, after a trial on
another machine, on a core that the driver keeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence

from sweeps.dispatch.context import Context as Context
from sweeps.dispatch.context import limited, server_lost
from sweeps.dispatch.ray_tasks import RayDispatch
from sweeps.errors import DispatchError
from sweeps.machine import host
from sweeps.plan.stopping import Limit
from sweeps.worker import on_node
from sweeps.worker.on_node import Place
from tracking.record import Result, Trial

Results = Generator[Result, None, None]


def inline(trials: Sequence[Trial], context: Context) -> Results:
    """Run the trials one after another, each in a fresh process, without Ray."""
    for trial in trials:
        limit = context.limit(trial)
        if limit and not limit.passes:
            yield context.skipped(trial, limit.reason)
            continue
        while context.calibration and (first := context.calibration.preceding(trial, context.node.node_id)):
            calibrated = _run_here(first, context)
            context.calibrated(calibrated, server_lost(calibrated), context.node)
        for attempt in itertools.count():
            context.started(trial)
            result = _run_here(trial, context, limit)
            if (final := context.final(result, server_lost(result), attempt)) is not None:
                yield limited(final, limit)
                break


def on_ray(trials: Sequence[Trial], context: Context) -> Results:
    """Run the trials as Ray tasks, as many at a time as their resources allow. Ray must be running.

    Closing the generator ends what still runs. Raises DispatchError when the cluster is lost, when a private Ray is
    lost again and again, and when the remaining trials have fitted no node for `fleet.wait_s`.
    """
    dispatch = RayDispatch(trials, context)
    try:
        while dispatch.unfinished:
            try:
                if (why := dispatch.lost()) is not None:
                    yield from dispatch.recover(why)
                else:
                    yield from dispatch.start()
                    yield from dispatch.collect()
            except Exception:
                if not dispatch.cut_off():
                    raise
    except ConnectionError as error:
        raise DispatchError(f"the connection to the Ray cluster is lost: {error}") from error
    finally:
        dispatch.cancel()


def _run_here(trial: Trial, context: Context, limit: Limit | None = None) -> Result:
    place = Place(server=context.server(), node=context.node, folder=context.folder)
    passes = limit.passes if limit else trial.passes
    return on_node.run(trial, context.sweep_id, place, passes, host.gpu_ids(trial.device.gpus))[0]
