"""One trial, alone in a fresh process, to a `Result` - whatever becomes of the process."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps import host, log_tail, trial_folder
from sweeps.errors import DispatchError
from sweeps.forkserver import Call, connect
from sweeps.limits import Watch
from tracking.record import Failure, Measurement, Pass, Result, Status, Trial

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
    measured: dict[Pass, Measurement] = {}
    phases: dict[str, float] = {}
    facts: dict[str, Any] = {}
    failed: tuple[Status, Failure] | None = None
    exit_status, done = None, False
    env = {**env, **trial_folder.environment(log.parent)}
    asked = trial if passes is None else replace(trial, passes=passes)
    call = Call(function="sweeps.tasks:run", argument=asked, cores=cores, env=env, log=str(log))
    watch: Watch | None = None
    try:
        with (
            connect(server) as connection,
            Watch(connection, started=started, timeout_s=trial.timeout_s, memory_mb=trial.device.memory_mb) as watch,
        ):
            connection.send(call)
            while exit_status is None:
                kind, value = connection.recv()
                if kind == "pid":
                    watch.process(value)
                    phases["fork"] = time.perf_counter() - started
                elif kind == "pass":
                    measured[value[0]] = value[1]
                elif kind == "phase":
                    phases[value[0]] = value[1]
                elif kind == "failed":
                    failed = failed or value
                elif kind == "done":
                    done = True
                elif kind == "exit":
                    exit_status = value
                else:
                    facts[kind] = value
    except (DispatchError, EOFError, OSError, pickle.UnpicklingError) as error:  # the last: it died in mid-message
        detail = watch.lost if watch is not None and watch.lost else str(error)
        lost: tuple[Status, Failure] = (
            "crashed",
            Failure(kind=LOST, message="the fork server was lost", detail=detail),
        )
        failed = failed or (watch and watch.exceeded) or lost
    if failed is None and not (done and exit_status == 0):
        failed = (watch and watch.exceeded) or _died(exit_status or 0, oom_kills, log, done=done)
    status, failure = failed or ("ok", None)
    return Result(
        trial=trial,
        sweep_id=sweep_id,
        status=status,
        error=failure,
        started_at=started_at,
        wall_s=time.perf_counter() - started,
        passes=measured,
        phases=phases,
        **facts,
    )


def _died(exit_status: int, oom_kills: int, log: Path, *, done: bool) -> tuple[Status, Failure]:
    """What a process died of, from its wait status, its log and the kernel's out-of-memory kills before it ran."""
    tail = log_tail.tail(log, _TAIL_LINES)
    if not os.WIFSIGNALED(exit_status):
        code = os.waitstatus_to_exitcode(exit_status)
        when = "as soon as" if done else "before"
        message = f"the process exited with code {code} {when} it was done"
        return "crashed", Failure(kind=f"Exit{code}", message=message, detail=tail)
    name = signal.Signals(os.WTERMSIG(exit_status)).name
    if name == "SIGKILL" and host.oom_kills() > oom_kills:
        message = f"the kernel killed the process: {host.out_of_memory()}"
        return "oom", Failure(kind=name, message=message, detail=tail)
    last_words = log_tail.tail(log, _LAST_WORDS).splitlines()
    if name == "SIGABRT" and (told := [line for line in last_words if _OUT_OF_MEMORY.search(line)]):
        return "oom", Failure(kind=name, message=f"the process aborted, out of memory: {told[-1].strip()}", detail=tail)
    return "crashed", Failure(kind=name, message=f"the process died of {name}", detail=tail)
