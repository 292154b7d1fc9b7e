"""Limits on a trial's time and memory, and on how long to wait for its fork server.

A separate thread enforces them, whatever the trial and the server do: a trial that stops itself in the middle of a
message, or a server that hangs or was stopped, would keep its reader waiting for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from sweeps.errors import DispatchError
from sweeps.worker import descendants
from tracking.record import Failure, Status

_LOOK_EVERY_S = 0.5
"""Seconds between two looks at a trial's memory."""
START_S = 60.0
"""How long the fork server may take to fork, whatever the trial's own limit; a swapping machine is slow."""
END_S = 10.0
"""How long the server may take to end what an ended process has left, and to report its end."""
_KILL_S = 60.0
"""How long a killed process may take to end: it may have to free much memory, or be stuck in the kernel."""
_PAGE = os.sysconf("SC_PAGESIZE")


class Watch:
    """Kills a process at its limits, and shuts the connection down when the fork server does not do its part.

    A reader of the connection then gets EOFError. `exceeded` and `lost` say why.
    """

    def __init__(
        self,
        connection: Connection[Any, Any],
        *,
        started: float,
        timeout_s: float | None = None,
        memory_mb: float | None = None,
    ) -> None:
        """`started` is a time of `time.perf_counter`."""
        self.exceeded: tuple[Status, Failure] | None = None
        """The limit that the process exceeded, as the outcome of its trial."""
        self.lost = ""
        """What the fork server has failed to do."""
        self._timeout_s, self._memory_mb = timeout_s, memory_mb
        self._deadline = None if timeout_s is None else started + timeout_s
        self._connection = connection
        self._pid = 0
        self._process: int | None = None
        """The process, as a descriptor that becomes readable when it ends."""
        self._patience: tuple[float, str] | None = self._until(START_S, "did not start the trial's process")
        """When to give the server up, and what it will then have failed to do."""
        self._closed = self._unwanted = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="limits", daemon=True)

    def process(self, pid: int) -> None:
        """Watch this process, which has started."""
        self._pid = pid
        os.eventfd_write(self._wake, 1)

    def end(self) -> None:
        """Kill the process, because it has sent something that is not a message."""
        self._unwanted = True
        os.eventfd_write(self._wake, 1)

    def __enter__(self) -> Self:
        """Start watching. Raises DispatchError where the system permits no more threads."""
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self._wake)
            raise DispatchError(f"expected a thread to enforce the limits of a trial. Received: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for descriptor in (self._wake, self._process):
            if descriptor is not None:
                os.close(descriptor)

    def _run(self) -> None:
        events = select.poll()
        events.register(self._wake, select.POLLIN)
        while not self._closed:
            ready = [descriptor for descriptor, _ in events.poll(self._pause_ms())]
            if self._wake in ready:
                os.eventfd_read(self._wake)
                if self._pid and self._process is None and not self._closed:
                    self._patience = None
                    with contextlib.suppress(OSError):  # it has ended, as the server is about to report
                        self._process = os.pidfd_open(self._pid)
                        events.register(self._process, select.POLLIN)
                if self._unwanted:
                    self._stop()
            elif self._process in ready and self._process is not None:
                events.unregister(self._process)
                self._pid = 0  # there is nothing left to limit
                self._patience = self._until(END_S, "did not report the end of the trial's process")
            elif self._pid and self.exceeded is None and (exceeded := self._over()):
                self.exceeded = exceeded
                self._stop()
            elif self._patience is not None and time.perf_counter() >= self._patience[0]:
                self.lost = self._patience[1]
                self._cut()
                return

    def _pause_ms(self) -> float | None:
        """Return the milliseconds until the next look; None where there is nothing to look for."""
        now = time.perf_counter()
        looks = [] if self._patience is None else [self._patience[0] - now]
        if self._pid and self.exceeded is None:
            looks += [] if self._deadline is None else [self._deadline - now]
            looks += [] if self._memory_mb is None else [_LOOK_EVERY_S]
        return max(0.0, min(looks)) * 1000 + 1 if looks else None

    def _over(self) -> tuple[Status, Failure] | None:
        """Return the limit that the process exceeds, as the outcome of its trial."""
        if self._deadline is not None and time.perf_counter() >= self._deadline:
            return "timeout", Failure(kind="Timeout", message=f"not done after timeout_s={self._timeout_s:g}")
        if self._memory_mb is not None and (resident := resident_mb(self._pid)) > self._memory_mb:
            message = f"memory limit: {resident:.0f} MB resident, device.memory_mb={self._memory_mb:g}"
            return "oom", Failure(kind="MemoryLimit", message=message)
        return None

    def _stop(self) -> None:
        """Kill the process and its group. The server, which ends the rest, may have been stopped."""
        if not self._pid:
            return
        self._patience = self._until(_KILL_S, "did not report the end of the trial's process")
        with contextlib.suppress(OSError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)

    def _cut(self) -> None:
        """Shut the connection down, so that a reader that waits for a message gets EOFError."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as cut:
            cut.shutdown(socket.SHUT_RDWR)

    def _until(self, seconds: float, failing: str) -> tuple[float, str]:
        return time.perf_counter() + seconds, f"the fork server {failing} within {seconds:g} s"


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and of all that it has started, in units of 2**20 bytes.

    This reads a few dozen of the kernel's files; a walk over all processes of the machine would disturb the timing.
    """
    pages, pids = 0, [pid, *_daemons(pid)]
    while pids:
        process = pids.pop()
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
            pids += descendants.children(process)
    return pages * _PAGE / 2**20


def _daemons(pid: int) -> list[int]:
    """Return the processes that a trial's process has started and abandoned, now children of the fork server."""
    mark = descendants.mark_of(pid)
    if mark is None:
        return []
    return [
        other
        for other in descendants.children(descendants.parent(pid))
        if other != pid and descendants.mark_of(other) == mark
    ]
