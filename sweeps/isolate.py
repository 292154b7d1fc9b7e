"""One trial, alone in a fresh process, to a `Result` - whatever becomes of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.forkserver import Call, connect
from tracking.record import Failure, Measurement, Pass, Result, Status, Trial

_TAIL_LINES = 12


def run_trial(
    trial: Trial, *, sweep_id: str, server: str, cores: tuple[int, ...], env: Mapping[str, str], log: Path
) -> Result:
    """Run `trial` through the fork server at `server`, bound to `cores`; its output goes to `log`.

    Never raises for what the trial does: an exception, a signal, memory running out and the time limit are statuses of
    the result, which keeps every pass that was complete by then. Raises DispatchError when the server is not there.
    """
    started_at, started = time.time(), time.perf_counter()
    deadline = None if trial.timeout_s is None else started + trial.timeout_s
    oom_kills = _oom_kills()
    passes: dict[Pass, Measurement] = {}
    phases: dict[str, float] = {}
    facts: dict[str, Any] = {}
    failed: tuple[Status, Failure] | None = None
    pid, exit_status = 0, None
    call = Call(function="sweeps.tasks:run", argument=trial, cores=cores, env=env, log=str(log))
    with connect(server) as connection:
        connection.send(call)
        while exit_status is None:
            if deadline is not None and not connection.poll(max(0.0, deadline - time.perf_counter())):
                deadline = None
                failed = "timeout", Failure(kind="Timeout", message=f"not done after timeout_s={trial.timeout_s:g}")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL) if pid else connection.close()
            try:
                kind, value = connection.recv()
            except (EOFError, OSError):
                failed = failed or ("crashed", Failure(kind="ForkServerLost", message="the fork server was lost"))
                break
            if kind == "pid":
                pid = value
                phases["fork"] = time.perf_counter() - started
            elif kind == "pass":
                passes[value[0]] = value[1]
            elif kind == "phase":
                phases[value[0]] = value[1]
            elif kind == "failed":
                failed = failed or value
            elif kind == "exit":
                exit_status = value
            else:
                facts[kind] = value
    if failed is None and exit_status != 0:
        failed = _died(exit_status or 0, oom_kills, _tail(log))
    status, error = failed or ("ok", None)
    return Result(
        trial=trial,
        sweep_id=sweep_id,
        status=status,
        error=error,
        started_at=started_at,
        wall_s=time.perf_counter() - started,
        passes=passes,
        phases=phases,
        **facts,
    )


def _died(exit_status: int, oom_kills: int, tail: str) -> tuple[Status, Failure]:
    """What a process died of, from its wait status and the kernel's count of out-of-memory kills before it ran."""
    if not os.WIFSIGNALED(exit_status):
        code = os.waitstatus_to_exitcode(exit_status)
        return "crashed", Failure(kind=f"Exit{code}", message=f"the process exited with code {code}", detail=tail)
    name = signal.Signals(os.WTERMSIG(exit_status)).name
    if name == "SIGKILL" and _oom_kills() > oom_kills:
        return "oom", Failure(kind=name, message="the kernel killed the process: out of memory", detail=tail)
    return "crashed", Failure(kind=name, message=f"the process died of {name}", detail=tail)


def _oom_kills() -> int:
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
    return ""
