"""Trials to workers: `inline` runs them one after another here, `on_ray` as Ray tasks with each trial's own resources.

Both are generators of results in order of completion, and both let the consumer finish with a result before they start
the next trial: what the driver writes then runs on the cores that the trial has just given back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeps import cores, devices
from sweeps.devices import Node
from sweeps.errors import DispatchError
from sweeps.forkserver import ROOT
from sweeps.isolate import run_trial
from tracking.record import Failure, Result, Trial


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every trial of a sweep shares."""

    sweep_id: str
    folder: Path
    server: str
    """Address of the fork server on this machine."""
    node: Node
    started: Callable[[Trial], None] = field(default=lambda _: None)
    """Called by the driver when a trial has been handed out."""

    def log(self, trial: Trial) -> Path:
        return self.folder / "trials" / trial.trial_id / "log.txt"


def inline(trials: Sequence[Trial], context: Context) -> Iterator[Result]:
    """Run the trials one after another, each in a fresh process, without Ray."""
    for trial in trials:
        context.started(trial)
        gpu_ids = tuple(str(index) for index in range(trial.device.gpus))
        yield _run(trial, context, gpu_ids)


def on_ray(trials: Sequence[Trial], context: Context, retries: int = 1) -> Iterator[Result]:
    """Run the trials as Ray tasks; as many at a time as their resources allow. Ray must have been started.

    A trial whose worker dies is tried again `retries` times, then recorded as `crashed`.
    """
    import ray

    task = ray.remote(_ray_task)
    context_ref = ray.put((context.sweep_id, context.folder, context.server, context.node))
    waiting = deque((trial, 0) for trial in trials)
    running: dict[Any, tuple[Trial, int]] = {}
    free = _Free(context.node)
    while waiting or running:
        while waiting and free.take(waiting[0][0]):
            trial, attempt = waiting.popleft()
            options = devices.ray_options(trial.device, context.node)
            context.started(trial)
            running[task.options(max_retries=0, name=trial.model, **options).remote(trial, context_ref)] = (
                trial,
                attempt,
            )
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        trial, attempt = running.pop(done)
        free.give_back(trial)
        try:
            result: Result = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise DispatchError(f"a worker failed outside its trial: {error}") from error
        except ray.exceptions.RayError as error:
            if attempt < retries:
                waiting.append((trial, attempt + 1))
                continue
            message = f"the worker died {attempt + 1} times: {str(error).strip().splitlines()[0]}"
            failure = Failure(kind=type(error).__name__, message=message, detail=str(error))
            result = Result(trial=trial, sweep_id=context.sweep_id, status="crashed", error=failure)
        with _on_cores(result.host.get("cores") if running else None):
            yield result


@contextlib.contextmanager
def ray_on_this_machine(node: Node) -> Iterator[None]:
    """A Ray of our own, without dashboard and without a word, stopped on leaving."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), path]))  # workers import this package
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    try:
        ray.init(
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=True,
            namespace="sweeps",
        )
        yield
    finally:
        ray.shutdown()
        os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)


class _Free:
    """What the node has left to give, so that the driver never queues a trial that would have to wait inside Ray."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._cpus, self._gpus = node.cpus, node.gpus

    def take(self, trial: Trial) -> bool:
        cpus = self._node.cores_for(trial.device)
        if cpus > self._cpus or trial.device.gpus > self._gpus:
            return False
        self._cpus -= cpus
        self._gpus -= trial.device.gpus
        return True

    def give_back(self, trial: Trial) -> None:
        self._cpus += self._node.cores_for(trial.device)
        self._gpus += trial.device.gpus


def _ray_task(trial: Trial, shared: tuple[str, Path, str, Node]) -> Result:
    import ray

    sweep_id, folder, server, node = shared
    gpu_ids = tuple(str(gpu) for gpu in ray.get_gpu_ids())
    return _run(trial, Context(sweep_id=sweep_id, folder=folder, server=server, node=node), gpu_ids)


def _run(trial: Trial, context: Context, gpu_ids: tuple[str, ...]) -> Result:
    log = context.log(trial)
    log.parent.mkdir(parents=True, exist_ok=True)
    asked = time.perf_counter()
    with cores.claim(context.node.cores_for(trial.device)) as held:
        waited_s = time.perf_counter() - asked
        result = run_trial(
            trial,
            sweep_id=context.sweep_id,
            server=context.server,
            cores=held,
            env=devices.environment(trial.device, gpu_ids),
            log=log,
        )
    return replace(result, phases={"cores": waited_s, **result.phases})


@contextlib.contextmanager
def _on_cores(freed: Sequence[int] | None) -> Iterator[None]:
    """Keep this thread on the cores that a trial has given back while other trials are being timed."""
    before = os.sched_getaffinity(0)
    if freed:
        os.sched_setaffinity(0, freed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
