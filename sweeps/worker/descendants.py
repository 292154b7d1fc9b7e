"""Finds and ends all processes of a trial, wherever they have gone.

A daemon leaves its parent, its session and its process group, and may clear its environment. It keeps the resource
limits that it has inherited. Every trial's process therefore bears a mark, a hard limit of its own on a resource that
no trial exhausts, and so does everything that it starts. The mark also names the fork server, so that processes that
outlive a killed server can be found. Orphans of a trial become children of the fork server and not of init.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIMIT = resource.RLIMIT_RTTIME
"""The microseconds that a process with real-time priority may run without a pause."""
_BASE = 2**60
"""The lowest mark: 36,000 years."""
_NUMBERS, _PIDS, _TICKS = 2**20, 2**22, 2**16
"""Marks per server; distinct process ids and start times."""
_STATE, _PARENT, _START = 0, 1, 19
"""Positions of fields in `stat`, after the program's name."""
_LISTED = Path("/proc/thread-self/children").exists()
"""Whether the kernel lists a thread's children, which is a build option."""
_PATIENCE_S = 3.0
"""How long to wait for killed processes."""
_PAUSE_S = 0.005


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, including one that has just ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def first_mark(server: int) -> int:
    """Return the first of the marks of a fork server's trials. The server must not have been waited for yet."""
    return _BASE + ((_started(server) or 0) % _TICKS * _PIDS + server) * _NUMBERS


def mark(first: int, number: int) -> int:
    """Return the mark of a server's trial, by the server's first mark and the trial's number."""
    return first + number % _NUMBERS


def is_of(mark: int | None, first: int) -> bool:
    """Whether a mark belongs to a trial of the server with this first mark."""
    return mark is not None and 0 <= mark - first < _NUMBERS


def bear(mark: int) -> None:
    """Mark this process and all that it will ever start."""
    with contextlib.suppress(OSError, ValueError):  # it is bound by a lower limit already
        resource.setrlimit(_LIMIT, (mark, mark))


def mark_of(pid: int) -> int | None:
    """Return the mark that a process bears; None where it has none, has ended, or belongs to another user."""
    with contextlib.suppress(OSError):
        limit = resource.prlimit(pid, _LIMIT)[1]
        return limit if limit >= _BASE else None
    return None


def children(pid: int) -> list[int]:
    """Return the children of a process; none where it has ended."""
    if not _LISTED:
        return [child for child in _processes() if _stat(child, _PARENT) == str(pid)]
    pids: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                pids += map(int, (thread / "children").read_text().split())
    return pids


def parent(pid: int) -> int:
    """Return the parent of a process; 0 where there is none."""
    return int(_stat(pid, _PARENT) or 0)


def end_server(first: int) -> None:
    """Kill the processes left by trials of a fork server that has ended."""
    _end(lambda mark: is_of(mark, first))


def end_abandoned() -> None:
    """Kill the processes left by trials whose fork servers were killed together with their drivers."""

    def serverless(mark: int) -> bool:
        ticks, pid = divmod((mark - _BASE) // _NUMBERS, _PIDS)
        started = _started(pid)
        return started is None or started % _TICKS != ticks

    _end(serverless)


def _end(wanted: Callable[[int], bool]) -> None:
    """Kill every process of this user with such a mark until there is none, as one may start others meanwhile."""
    until = time.monotonic() + _PATIENCE_S
    while _kill_marked(wanted) and time.monotonic() < until:
        time.sleep(_PAUSE_S)


def _kill_marked(wanted: Callable[[int], bool]) -> bool:
    """Kill every process with such a mark, and return whether there was any."""
    killed = False
    # In a container's namespace, process ids differ from those here.
    namespace = _namespace(os.getpid())
    for pid in _processes():
        mark = mark_of(pid)
        if mark is None or not wanted(mark) or _stat(pid, _STATE) in ("Z", "X", None) or _namespace(pid) != namespace:
            continue
        with contextlib.suppress(OSError):
            process = os.pidfd_open(pid)
            try:
                if mark_of(pid) == mark:  # the process id has not been reused meanwhile
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    killed = True
            finally:
                os.close(process)
    return killed


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def _stat(pid: int, place: int) -> str | None:
    """Return a field of the process's `stat`, counted from its state; None where there is no such process."""
    try:
        # The program's name, the second field, is in parentheses and may contain blanks.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[place]
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks; None where there is no such process."""
    started = _stat(pid, _START)
    return None if started is None else int(started)


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115
    except OSError:
        return None
