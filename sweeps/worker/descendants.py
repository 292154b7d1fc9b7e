"""Which trial a process belongs to, wherever it has gone, and its end.

A daemon leaves its parent, its session and its process group, and may clear its environment. What it keeps are the
resource limits that it has inherited: every trial's process bears a mark, a hard limit of its own on a resource that no
trial uses up, and so does all that it starts. The mark names the fork server too, so that what outlives a killed server
can be found. Orphans of a trial become children of the fork server, which is their reaper, and not of init.
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
"""Microseconds that a process of real-time priority may run without a pause."""
_BASE = 2**60
"""The lowest mark: 36,000 years."""
_NUMBERS, _PIDS, _TICKS = 2**20, 2**22, 2**16
"""How many marks a server has; largest process id and start time that are told apart."""
_STATE, _PARENT, _START = 0, 1, 19
"""Places in `stat` after the program's name."""
_LISTED = Path("/proc/thread-self/children").exists()
"""Whether the kernel lists a thread's children; it may have been built without."""
_PATIENCE_S = 3.0
"""How long processes that have been killed are waited for."""
_PAUSE_S = 0.005


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, even if it has just ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def first_mark(server: int) -> int:
    """The mark from which a fork server counts those of its trials; the server must not have been waited for yet."""
    return _BASE + ((_started(server) or 0) % _TICKS * _PIDS + server) * _NUMBERS


def mark(first: int, number: int) -> int:
    """The mark of a server's trial."""
    return first + number % _NUMBERS


def is_of(mark: int | None, first: int) -> bool:
    """Whether a mark is one of a server's trials."""
    return mark is not None and 0 <= mark - first < _NUMBERS


def bear(mark: int) -> None:
    """Mark this process and all that it will ever start."""
    with contextlib.suppress(OSError, ValueError):  # a lower limit binds it already
        resource.setrlimit(_LIMIT, (mark, mark))


def mark_of(pid: int) -> int | None:
    """The mark that a process bears, whoever gave it; None: it has none, has ended, or is somebody else's."""
    with contextlib.suppress(OSError):
        limit = resource.prlimit(pid, _LIMIT)[1]
        return limit if limit >= _BASE else None
    return None


def children(pid: int) -> list[int]:
    """The children of a process; none of one that has ended."""
    if not _LISTED:
        return [child for child in _processes() if _stat(child, _PARENT) == str(pid)]
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                found += map(int, (thread / "children").read_text().split())
    return found


def parent(pid: int) -> int:
    """The parent of a process; 0: there is none."""
    return int(_stat(pid, _PARENT) or 0)


def end_server(first: int) -> None:
    """Kill what the trials of a fork server that has ended have left."""
    _end(lambda mark: is_of(mark, first))


def end_abandoned() -> None:
    """Kill what trials have left whose fork servers were killed together with those that started them."""

    def serverless(mark: int) -> bool:
        ticks, pid = divmod((mark - _BASE) // _NUMBERS, _PIDS)
        started = _started(pid)
        return started is None or started % _TICKS != ticks

    _end(serverless)


def _end(wanted: Callable[[int], bool]) -> None:
    """Kill every process of this user's with such a mark, until there is none: one may start others meanwhile."""
    until = time.monotonic() + _PATIENCE_S
    while _kill_marked(wanted) and time.monotonic() < until:
        time.sleep(_PAUSE_S)


def _kill_marked(wanted: Callable[[int], bool]) -> bool:
    """Whether there was any."""
    seen = False
    # In a container's namespace, process ids are others than here.
    namespace = _namespace(os.getpid())
    for pid in _processes():
        mark = mark_of(pid)
        if mark is None or not wanted(mark) or _stat(pid, _STATE) in ("Z", "X", None) or _namespace(pid) != namespace:
            continue
        with contextlib.suppress(OSError):
            process = os.pidfd_open(pid)
            try:
                if mark_of(pid) == mark:  # the number has not become another process's meanwhile
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    seen = True
            finally:
                os.close(process)
    return seen


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def _stat(pid: int, place: int) -> str | None:
    """A field of the process's `stat`, counted from its state; None: there is no such process."""
    try:
        # The second field of all is the program's name in parentheses, and may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[place]
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks; None: there is no such process."""
    started = _stat(pid, _START)
    return None if started is None else int(started)


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115
    except OSError:
        return None
