"""One trial, alone in a fresh process, to a `Result` - whatever becomes of the process."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sweeps.errors import DispatchError
from sweeps.machine import host
from sweeps.worker import log_tail, messages, trial_folder, wire
from sweeps.worker.forkserver import Call, connect
from sweeps.worker.limits import Watch
from sweeps.worker.messages import Heard
from sweeps.worker.wire import MessageError
from tracking.record import Failure, Pass, Result, Status, Trial

LOST = "ForkServerLost"
"""Kind of the failure of a trial that lost its fork server; no fault of its own."""
_TAIL_LINES = 12
_LAST_WORDS = 60
"""Lines at the end of a log that may tell why a process aborted: a stack trace follows the reason."""
_OUT_OF_MEMORY = re.compile(
    r"CUDA_ERROR_OUT_OF_MEMORY|RESOURCE_EXHAUSTED|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|out of memory", re.IGNORECASE
)


def run_trial(
    trial: Trial,
    passes: tuple[Pass, ...] | None = None,
    *,
    sweep_id: str,
    server: str,
    cores: tuple[int, ...],
    env: Mapping[str, str],
    log: Path,
) -> Result:
    """Run `trial`, or these of its passes, through the fork server at `server`, bound to `cores`, its output in `log`.

    Never raises for what the trial does: an exception, a signal, memory running out, the limits of time and of memory
    are statuses of the result, which keeps every pass that was complete by then. A server that is not there, or is lost
    meanwhile, is `crashed` with the kind `LOST`.
    """
    started_at, started = time.time(), time.perf_counter()
    oom_kills = host.oom_kills()
    env = {**env, **trial_folder.environment(log.parent)}
    asked = trial if passes is None else replace(trial, passes=passes)
    call = Call(function="sweeps.tasks:run", argument=asked, cores=cores, env=env, log=str(log))
    heard = Heard(asked.passes)
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
                    for kind, value in inbox.arrived():
                        heard.take(kind, value)
                        if kind == "pid":
                            watch.process(heard.pid)
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
        failed = (watch and watch.exceeded) or _died(heard.exit_status or 0, oom_kills, log, done=heard.done)
    status, failure = failed or ("ok", None)
    return Result(
        trial=trial,
        sweep_id=sweep_id,
        status=status,
        error=failure,
        started_at=started_at,
        wall_s=time.perf_counter() - started,
        passes=heard.measured,
        phases=heard.phases,
        **heard.facts,
    )


def _died(exit_status: int, oom_kills: int, log: Path, *, done: bool) -> tuple[Status, Failure]:
    """What a process died of, from its wait status, its log and the kernel's out-of-memory kills before it ran."""
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
    if name == "SIGABRT" and (told := [line for line in last_words if _OUT_OF_MEMORY.search(line)]):
        return "oom", Failure(kind=name, message=f"the process aborted, out of memory: {told[-1].strip()}", detail=tail)
    return "crashed", Failure(kind=name, message=f"the process died of {name}", detail=tail)
