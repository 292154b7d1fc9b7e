"""Runs one trial alone in a fresh process and makes a `Result` of it, whatever becomes of the process."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.errors import DispatchError
from sweeps.machine import host
from sweeps.worker import log_tail, messages, this_trial, wire
from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.limits import Watch
from sweeps.worker.messages import Message
from sweeps.worker.wire import MessageError
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Failure, Layer, Pass, Result, Status, Trial
from tracking.schema.measurement import Measurement

LOST = "ForkServerLost"
"""Kind of the failure of a trial whose fork server was lost, through no fault of the trial."""
_TAIL_LINES = 12
_LAST_WORDS = 60
"""Lines at the end of a log that may say why a process aborted: a stack trace follows the reason."""
_MOST_PHASES = 100
_OUT_OF_MEMORY = re.compile(
    r"CUDA_ERROR_OUT_OF_MEMORY|RESOURCE_EXHAUSTED|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|out of memory", re.IGNORECASE
)


class Heard:
    """The content of the messages that a trial's process has sent so far."""

    def __init__(self, passes: tuple[Pass, ...]) -> None:
        self.pid = 0
        self.exit_status: int | None = None
        self.done = False
        self.failed: tuple[Status, Failure] | None = None
        self.host: Mapping[str, Any] = {}
        self.layers: tuple[Layer, ...] = ()
        self.passes: dict[Pass, Measurement] = {}
        self.metrics: Mapping[str, float] = {}
        self.curves: Mapping[str, tuple[tuple[int, float], ...]] = {}
        self.phases: dict[str, float] = {}
        self.limits: Mapping[str, float] = {}
        self._expected = passes

    def take(self, message: Message | messages.Started | messages.Ended) -> None:
        """Note a message. Raises MessageError where the trial may not send it."""
        match message:
            case messages.Started(pid):
                if self.pid:
                    raise MessageError("pid: expected it once")
                self.pid = pid
            case messages.Ended(wait_status):
                self.exit_status = wait_status
            case _:
                self._note(message)

    def _note(self, message: Message) -> None:
        match message:
            case messages.Host(facts):
                self.host = facts
            case messages.Layers(rows):
                self.layers = rows
            case messages.Phase(name, seconds):
                if len({*self.phases, name}) > _MOST_PHASES:
                    raise MessageError(f"phase: expected at most {_MOST_PHASES} phases. Received: one more")
                self.phases[name] = seconds
            case messages.PassMeasured(name, measurement):
                if name not in self._expected:
                    expected = " or ".join(self._expected) or "no pass"
                    raise MessageError(f"pass: expected {expected}, as the trial has it. Received: {name!r}")
                self.passes[name] = measurement
            case messages.Metrics(figures):
                self.metrics = figures
            case messages.Curves(points):
                self.curves = points
            case messages.Limits(figures):
                self.limits = figures
            case messages.Failed(status, failure):
                self.failed = self.failed or (status, failure)
            case messages.Done():
                self.done = True

    def result(self, trial: Trial, sweep_id: str, failed: tuple[Status, Failure] | None) -> Result:
        """Return everything received as the result of `trial`, which failed as `failed` says unless it is None."""
        status, failure = failed or ("ok", None)
        return Result(
            trial=trial,
            sweep_id=sweep_id,
            status=status,
            error=failure,
            host=self.host,
            layers=self.layers,
            passes=self.passes,
            metrics=self.metrics,
            curves=self.curves,
            phases=self.phases,
            limits=self.limits,
        )


def run_trial(
    trial: Trial,
    passes: tuple[Pass, ...] | None = None,
    *,
    sweep_id: str,
    server: str,
    cores: tuple[int, ...],
    env: Mapping[str, str],
    folder: TrialFolder,
) -> Result:
    """Run `trial`, or only these of its passes, through the fork server at the address `server`.

    Its process is bound to `cores` and writes into `folder`, which must exist.

    Nothing that the trial does raises here: an exception, a signal, exhausted memory, and the limits of time and memory
    are statuses of the result, which keeps every pass that was complete by then. Where the server is missing or is lost
    meanwhile, the status is `crashed`, with the kind `LOST`.
    """
    started_at, started = time.time(), time.perf_counter()
    oom_kills = host.oom_kills()
    env = {**env, **this_trial.environment(folder)}
    requested = trial if passes is None else replace(trial, passes=passes)
    call = Call(function="sweeps.tasks:run", argument=requested, cores=cores, env=env, log=str(folder.log))
    heard = Heard(requested.passes)
    failed: tuple[Status, Failure] | None = None
    watch: Watch | None = None
    try:
        with (
            connect(server) as connection,
            Watch(connection, started=started, timeout_s=trial.timeout_s, memory_mb=trial.device.memory_mb) as watch,
        ):
            connection.send(call)
            inbox = wire.Inbox(connection.fileno())
            while heard.exit_status is None:
                try:
                    for kind, content in inbox.arrived():
                        message = messages.received(kind, content)
                        heard.take(message)
                        if isinstance(message, messages.Started):
                            watch.process(message.pid)
                            heard.phases["fork"] = time.perf_counter() - started
                except MessageError as error:
                    failed = failed or ("error", messages.failure("MessageError", str(error)))
                    heard.exit_status = inbox.exit_status()
                    watch.end()
    except (DispatchError, EOFError, OSError) as error:
        detail = watch.lost if watch is not None and watch.lost else str(error)
        lost = Failure(kind=LOST, message="the fork server was lost", detail=detail)
        failed = failed or heard.failed or (watch and watch.exceeded) or ("crashed", lost)
    failed = failed or heard.failed
    if failed is None and not (heard.done and heard.exit_status == 0):
        failed = (watch and watch.exceeded) or _died(heard.exit_status or 0, oom_kills, folder.log, done=heard.done)
    result = heard.result(trial, sweep_id, failed)
    return replace(result, started_at=started_at, wall_s=time.perf_counter() - started)


def _died(exit_status: int, oom_kills: int, log: Path, *, done: bool) -> tuple[Status, Failure]:
    """Return what a process died of, by its wait status, its log and the kernel's count of out-of-memory kills.

    `oom_kills` is that count before it ran.
    """
    tail = log_tail.tail(log, _TAIL_LINES)
    if not os.WIFSIGNALED(exit_status):
        code = os.waitstatus_to_exitcode(exit_status)
        when = "as soon as" if done else "before"
        message = f"the process exited with code {code} {when} it was done"
        return "crashed", Failure(kind=f"Exit{code}", message=message, detail=tail)
    name = host.signal_name(os.WTERMSIG(exit_status))
    if name == "SIGKILL" and host.oom_kills() > oom_kills:
        message = f"the kernel killed the process: {host.out_of_memory()}"
        return "oom", Failure(kind=name, message=message, detail=tail)
    last_words = log_tail.tail(log, _LAST_WORDS).splitlines()
    if name == "SIGABRT" and (reasons := [line for line in last_words if _OUT_OF_MEMORY.search(line)]):
        return "oom", Failure(
            kind=name, message=f"the process aborted, out of memory: {reasons[-1].strip()}", detail=tail
        )
    return "crashed", Failure(kind=name, message=f"the process died of {name}", detail=tail)
