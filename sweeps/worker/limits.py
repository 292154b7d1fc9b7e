"""Time and memory that a trial may take, and the patience with its fork server.

A thread of its own watches, so that limits hold whatever the trial and the server do: a trial that stops itself in the
middle of a message, or a server that hangs or has been stopped, would keep whoever reads from them waiting for ever.
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
"""How often a trial's memory is compared with its limit, seconds."""
START_S = 60.0
"""How long the fork server may take to fork, whatever the trial's own limit; a machine that swaps is slow."""
END_S = 10.0
"""How long it may take to report the end of a process that has ended, and to end what that has left."""
_KILL_S = 60.0
"""How long a killed process may take to end: it may have much memory to give back, or be stuck in the kernel."""
_PAGE = os.sysconf("SC_PAGESIZE")


class Watch:
    """Kills a process at its limits, and cuts the connection when the fork server does not do its part.

    Whoever reads from the connection then gets EOFError. `exceeded` and `lost` say why.
    """

    def __init__(
        self,
        connection: Connection[Any, Any],
        *,
        started: float,
        timeout_s: float | None = None,
        memory_mb: float | None = None,
    ) -> None:
        """`started` by `time.perf_counter`."""
        self.exceeded: tuple[Status, Failure] | None = None
        """The limit that the process was over, as the outcome of its trial."""
        self.lost = ""
        """What the fork server has failed to do."""
        self._timeout_s, self._memory_mb = timeout_s, memory_mb
        self._deadline = None if timeout_s is None else started + timeout_s
        self._connection = connection
        self._pid = 0
        self._process: int | None = None
        """Its process, as a descriptor that becomes readable at its end."""
        self._patience: tuple[float, str] | None = self._until(START_S, "did not start the trial's process")
        """When to give the server up, unless it does meanwhile what is expected of it."""
        self._closed = self._unwanted = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="limits", daemon=True)

    def process(self, pid: int) -> None:
        """Take note of the process, which has begun."""
        self._pid = pid
        os.eventfd_write(self._wake, 1)

    def end(self) -> None:
        """Kill the process, whose messages are none."""
        self._unwanted = True
        os.eventfd_write(self._wake, 1)

    def __enter__(self) -> Self:
        """Begin. Raises DispatchError where the system permits no more threads."""
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self._wake)
            raise DispatchError(f"expected a thread to hold a trial to its limits. Received: {error}") from error
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
                    with contextlib.suppress(OSError):  # it has ended: the server is about to say so
                        self._process = os.pidfd_open(self._pid)
                        events.register(self._process, select.POLLIN)
                if self._unwanted:
                    self._stop()
            elif self._process in ready and self._process is not None:
                events.unregister(self._process)
                self._pid = 0  # nothing is left to be limited
                self._patience = self._until(END_S, "did not report the end of the trial's process")
            elif self._pid and self.exceeded is None and (exceeded := self._over()):
                self.exceeded = exceeded
                self._stop()
            elif self._patience is not None and time.perf_counter() >= self._patience[0]:
                self.lost = self._patience[1]
                self._cut()
                return

    def _pause_ms(self) -> float | None:
        """Milliseconds until the next look; None: there is nothing to look for."""
        now = time.perf_counter()
        looks = [] if self._patience is None else [self._patience[0] - now]
        if self._pid and self.exceeded is None:
            looks += [] if self._deadline is None else [self._deadline - now]
            looks += [] if self._memory_mb is None else [_LOOK_EVERY_S]
        return max(0.0, min(looks)) * 1000 + 1 if looks else None

    def _over(self) -> tuple[Status, Failure] | None:
        if self._deadline is not None and time.perf_counter() >= self._deadline:
            return "timeout", Failure(kind="Timeout", message=f"not done after timeout_s={self._timeout_s:g}")
        if self._memory_mb is not None and (resident := resident_mb(self._pid)) > self._memory_mb:
            message = f"memory limit: {resident:.0f} MB resident, device.memory_mb={self._memory_mb:g}"
            return "oom", Failure(kind="MemoryLimit", message=message)
        return None

    def _stop(self) -> None:
        """Kill the process and its group, itself: the server, which sees to the rest, may have been stopped."""
        if not self._pid:
            return
        self._patience = self._until(_KILL_S, "did not report the end of the trial's process")
        with contextlib.suppress(OSError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)

    def _cut(self) -> None:
        """Have whoever waits for a message get EOFError."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as cut:
            cut.shutdown(socket.SHUT_RDWR)

    def _until(self, seconds: float, failing: str) -> tuple[float, str]:
        return time.perf_counter() + seconds, f"the fork server {failing} within {seconds:g} s"


def resident_mb(pid: int) -> float:
    """Resident memory of a process and of all that it has started, in units of 2**20 bytes.

    Files of the kernel's, a few dozen: a walk over all of the machine's processes would be felt by what is being timed.
    """
    pages, pids = 0, [pid, *_daemons(pid)]
    while pids:
        process = pids.pop()
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
            pids += descendants.children(process)
    return pages * _PAGE / 2**20


def _daemons(pid: int) -> list[int]:
    """What a trial's process has started and let go: by now children of the fork server, as it is."""
    mark = descendants.mark_of(pid)
    if mark is None:
        return []
    return [
        other
        for other in descendants.children(descendants.parent(pid))
        if other != pid and descendants.mark_of(other) == mark
    ]
