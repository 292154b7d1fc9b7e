"""One trial, alone in a fresh process, to a `Result` - whatever becomes of the process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweeps import host, messages, trial_folder, wire
from sweeps.errors import DispatchError
from sweeps.forkserver import Call, connect
from sweeps.messages import Heard
from sweeps.wire import MessageError
from tracking.record import Failure, Pass, Result, Status, Trial

LOST = "ForkServerLost"
"""Kind of the failure of a trial that lost its fork server; no fault of its own."""
_TAIL_LINES = 12
_LAST_WORDS = 60
"""Lines at the end of a log that may tell why a process aborted: a stack trace follows the reason."""
_OUT_OF_MEMORY = re.compile(
    r"CUDA_ERROR_OUT_OF_MEMORY|RESOURCE_EXHAUSTED|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|out of memory", re.IGNORECASE
)
_LOOK_EVERY_S = 0.5
"""How often a trial's memory is compared with its limit, seconds."""
_PAGE = os.sysconf("SC_PAGESIZE")


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
    limits: _Limits | None = _Limits(trial, started)
    heard, failed = Heard(asked.passes), None
    try:
        with connect(server) as connection:
            connection.send(call)
            inbox = wire.Inbox(connection.fileno())
            while heard.exit_status is None:
                if limits is not None and not connection.poll(limits.pause()):
                    if (exceeded := limits.exceeded(heard.pid)) is None:
                        continue
                    failed, limits = exceeded, None
                    _end(heard.pid, connection)
                try:
                    for kind, value in inbox.arrived():
                        heard.take(kind, value)
                        if kind == "pid":
                            heard.phases["fork"] = time.perf_counter() - started
                except MessageError as error:
                    failed = failed or ("error", messages.failure("MessageError", str(error)))
                    heard.exit_status = inbox.exit_status()
                    _end(heard.pid, connection)
    except (DispatchError, EOFError, OSError) as error:
        failed = failed or ("crashed", Failure(kind=LOST, message="the fork server was lost", detail=str(error)))
    failed = failed or heard.failed
    if failed is None and not (heard.done and heard.exit_status == 0):
        failed = _died(heard.exit_status or 0, oom_kills, log)
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


def _end(pid: int, connection: Connection[Any, Any]) -> None:
    """Kill the trial's process; one that has not said its id goes with the connection."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL) if pid else connection.close()


class _Limits:
    """The time and the memory that a trial may take. Memory is looked at from outside, twice a second."""

    def __init__(self, trial: Trial, started: float) -> None:
        self._timeout_s, self._memory_mb = trial.timeout_s, trial.device.memory_mb
        self._deadline = None if trial.timeout_s is None else started + trial.timeout_s

    def pause(self) -> float | None:
        """Seconds until the next look; None: there is nothing to look for."""
        left = None if self._deadline is None else max(0.0, self._deadline - time.perf_counter())
        if self._memory_mb is None:
            return left
        return _LOOK_EVERY_S if left is None else min(left, _LOOK_EVERY_S)

    def exceeded(self, pid: int) -> tuple[Status, Failure] | None:
        """The limit that the process is over, as the outcome of its trial."""
        if self._deadline is not None and time.perf_counter() >= self._deadline:
            return "timeout", Failure(kind="Timeout", message=f"not done after timeout_s={self._timeout_s:g}")
        if self._memory_mb is not None and pid and (resident := _resident_mb(pid)) > self._memory_mb:
            message = f"memory limit: {resident:.0f} MB resident, device.memory_mb={self._memory_mb}"
            return "oom", Failure(kind="MemoryLimit", message=message)
        return None


def _resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in units of 2**20 bytes; those that have ended have none.

    Files of the kernel's, a few dozen: a walk over all of the machine's processes would be felt by what is being timed.
    """
    pages, pids = 0, [pid]
    while pids:
        process = Path(f"/proc/{pids.pop()}")
        with contextlib.suppress(OSError):
            pages += int((process / "statm").read_text().split()[1])
            for thread in (process / "task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
    return pages * _PAGE / 2**20


def _died(exit_status: int, oom_kills: int, log: Path) -> tuple[Status, Failure]:
    """What a process died of, from its wait status, its log and the kernel's out-of-memory kills before it ran."""
    tail = _tail(log)
    if not os.WIFSIGNALED(exit_status):
        code = os.waitstatus_to_exitcode(exit_status)
        return "crashed", Failure(
            kind=f"Exit{code}", message=f"the process exited with code {code} in mid-trial", detail=tail
        )
    name = signal.Signals(os.WTERMSIG(exit_status)).name
    if name == "SIGKILL" and host.oom_kills() > oom_kills:
        message = f"the kernel killed the process: {host.out_of_memory()}"
        return "oom", Failure(kind=name, message=message, detail=tail)
    last_words = _tail(log, _LAST_WORDS).splitlines()
    if name == "SIGABRT" and (told := [line for line in last_words if _OUT_OF_MEMORY.search(line)]):
        return "oom", Failure(kind=name, message=f"the process aborted, out of memory: {told[-1].strip()}", detail=tail)
    return "crashed", Failure(kind=name, message=f"the process died of {name}", detail=tail)


def _tail(log: Path, lines: int = _TAIL_LINES) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""
