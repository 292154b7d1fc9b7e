"""Trials to workers: `inline` runs them one after another here, `on_ray` as Ray tasks with each trial's own resources.

Both are generators of results in order of completion, and both let the consumer finish with a result before they start
the next trial: what the driver writes then runs on the cores that the trial has just given back.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from sweeps import cores, devices
from sweeps.devices import Node
from sweeps.errors import DispatchError
from sweeps.forkserver import ROOT, ForkServer, connect
from sweeps.guardian import guarded
from sweeps.isolate import LOST, run_trial
from tracking.record import Failure, Result, Trial

Results = Generator[Result, None, None]
_ROOM_TO_WRITE = 2**16
"""Free bytes below which a trial that fails may have failed for want of them, when it wrote its log."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every trial of a sweep shares."""

    sweep_id: str
    folder: Path
    server: Callable[[], str]
    """Gives the address of a fork server that is there now, on this machine."""
    node: Node
    retries: int = 1
    """How often a trial is tried again that has lost its worker, its node or its fork server."""
    started: Callable[[Trial], None] = field(default=lambda _: None)
    """Called by the driver when a trial has been handed out."""
    retrying: Callable[[Result], None] = field(default=lambda _: None)
    """Called by the driver with what became of a trial that is about to be tried again."""
    skip: Callable[[Trial], Failure | None] = field(default=lambda _: None)
    """Why a trial that is next need not be run; it then is `oom` for that reason."""

    def log(self, trial: Trial) -> Path:
        return log_of(trial, self.folder)


def log_of(trial: Trial, folder: Path) -> Path:
    """Where a trial of the sweep in `folder` writes what it has to say."""
    return folder / "trials" / trial.trial_id / "log.txt"


class LastingServer:
    """The fork server of this machine, once somebody wants it; `address` starts another one when it was lost."""

    def __init__(self) -> None:
        self._server: ForkServer | None = None
        self._ready = False

    def start(self) -> None:
        """Start the server unless it has been started; it is ready seconds later."""
        if self._server is None:
            self._server, self._ready = ForkServer(), False

    def address(self) -> str:
        """Where a fork server listens now, after waiting for it. Raises DispatchError when none can be started."""
        if self._server is not None and self._ready:
            try:
                connect(self._server.address).close()
            except DispatchError:
                self._close()
        self.start()
        assert self._server is not None
        if not self._ready:
            self._server.wait_ready()
            self._ready = True
        return self._server.address

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> LastingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def inline(trials: Sequence[Trial], context: Context) -> Results:
    """Run the trials one after another, each in a fresh process, without Ray."""
    for trial in trials:
        if reason := context.skip(trial):
            yield _skipped(trial, context, reason)
            continue
        gpu_ids = tuple(str(index) for index in range(trial.device.gpus))
        for attempt in itertools.count():
            server = context.server()
            context.started(trial)
            result = _run(trial, context.sweep_id, context.folder, server, context.node, gpu_ids)
            if (final := _final(result, _server_lost(result), attempt, context)) is not None:
                yield final
                break


def on_ray(trials: Sequence[Trial], context: Context) -> Results:
    """Run the trials as Ray tasks; as many at a time as their resources allow. Ray must have been started.

    What still runs when the generator is closed is ended.
    """
    import ray

    task = ray.remote(_ray_task)
    shared = ray.put((context.sweep_id, context.folder, context.node))
    waiting = deque((trial, 0) for trial in trials)
    running: dict[Any, tuple[Trial, int]] = {}
    free = _Free(context.node)
    freed: Sequence[int] = ()
    look_for_skips = True
    try:
        while waiting or running:
            if look_for_skips:
                reasons = [(trial, attempt, context.skip(trial)) for trial, attempt in waiting]
                waiting = deque((trial, attempt) for trial, attempt, reason in reasons if reason is None)
                for trial, _, reason in reasons:
                    if reason is not None:
                        with _on_cores(freed if running else ()):
                            yield _skipped(trial, context, reason)
                look_for_skips = False
                continue
            while waiting and free.take(waiting[0][0]):
                trial, attempt = waiting.popleft()
                options = devices.ray_options(trial.device, context.node)
                server = context.server()
                context.started(trial)
                ref = task.options(max_retries=0, name=trial.model, **options).remote(trial, server, shared)
                running[ref] = trial, attempt
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            trial, attempt = running.pop(done)
            free.give_back(trial)
            result, lost = _fetch(done, trial, context.sweep_id)
            if (final := _final(result, lost, attempt, context)) is None:
                waiting.append((trial, attempt + 1))
                continue
            freed = final.host.get("cores", ())
            with _on_cores(freed if running else ()):
                yield final
            look_for_skips = final.status == "oom"
    finally:
        if ray.is_initialized():
            for ref in running:
                ray.cancel(ref, force=True)


def _fetch(ref: Any, trial: Trial, sweep_id: str) -> tuple[Result, bool]:
    """What a Ray task has come to, and whether it was lost through no fault of its own."""
    import ray

    try:
        result: Result = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise DispatchError(f"a worker failed outside its trial: {error.cause or error}") from error
    except ray.exceptions.OutOfMemoryError as error:
        failure = Failure(kind="OutOfMemoryError", message="Ray ended the worker: out of memory", detail=str(error))
        return Result(trial=trial, sweep_id=sweep_id, status="oom", error=failure), False
    except ray.exceptions.RayError as error:
        failure = Failure(kind=type(error).__name__, message="the worker died", detail=str(error))
        return Result(trial=trial, sweep_id=sweep_id, status="crashed", error=failure), True
    return result, _server_lost(result)


def _server_lost(result: Result) -> bool:
    return result.status == "crashed" and result.error is not None and result.error.kind == LOST


def _final(result: Result, lost: bool, attempt: int, context: Context) -> Result | None:
    """The result to be recorded; None: the trial is to be tried again."""
    if not lost or result.error is None:
        return result
    if attempt < context.retries:
        context.retrying(result)
        return None
    return replace(result, error=replace(result.error, message=f"{result.error.message} (tries: {attempt + 1})"))


def _skipped(trial: Trial, context: Context, reason: Failure) -> Result:
    return Result(trial=trial, sweep_id=context.sweep_id, status="oom", started_at=time.time(), error=reason)


@contextlib.contextmanager
def ray_on_this_machine(node: Node) -> Iterator[None]:
    """A Ray of our own, without dashboard and without a word, stopped on leaving."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), path]))  # workers import this package
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    others = _descendants()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path))
        stack.callback(ray.shutdown)
        ray.init(
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=True,
            namespace="sweeps",
        )
        daemons = _descendants() - others
        _let_trials_go_first(daemons)
        with guarded(daemons):
            try:
                yield
            finally:
                ray.shutdown()


def _let_trials_go_first(pids: set[int]) -> None:
    """Let these processes run only where nothing else wants to: Ray's housekeeping otherwise takes 2% of two cores.

    That is felt as 3% in every step, because a parallel step is as slow as its slowest thread. What they start later,
    workers among it, runs as usual.
    """
    for task in (task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*")):
        with contextlib.suppress(OSError):  # it has ended, or the system does not let us
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _descendants() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


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


def _ray_task(trial: Trial, server: str, shared: tuple[str, Path, Node]) -> Result:
    import ray

    sweep_id, folder, node = shared
    return _run(trial, sweep_id, folder, server, node, tuple(str(gpu) for gpu in ray.get_gpu_ids()))


def _run(trial: Trial, sweep_id: str, folder: Path, server: str, node: Node, gpu_ids: tuple[str, ...]) -> Result:
    log = log_of(trial, folder)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DispatchError(
            f"expected a folder that can be written. Received: {error.filename} ({error.strerror})"
        ) from error
    asked = time.perf_counter()
    with cores.claim(node.cores_for(trial.device)) as held:
        waited_s = time.perf_counter() - asked
        env = devices.environment(trial.device, gpu_ids)
        result = run_trial(trial, sweep_id=sweep_id, server=server, cores=held, env=env, log=log)
    if not result.ok and shutil.disk_usage(folder).free < _ROOM_TO_WRITE:
        raise DispatchError(f"expected room for results. Received: {folder} (No space left on device)")
    return replace(result, phases={"cores": waited_s, **result.phases})


@contextlib.contextmanager
def _on_cores(freed: Sequence[int]) -> Iterator[None]:
    """Keep this thread on the cores that a trial has given back while other trials are being timed."""
    before = os.sched_getaffinity(0)
    if freed:
        os.sched_setaffinity(0, freed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
