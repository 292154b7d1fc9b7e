"""The fork server's loop: it forks a process for each call and ends everything that the process has started.

It is one thread that never waits for anybody. A client that stops in the middle of a message or no longer reads, a fork
that the system refuses, or a process that cannot be killed affects its own call and no other.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweeps.worker import child, descendants

_AGAIN_S = 0.01
"""How soon to look again for processes that a trial has left, when no process ends meanwhile."""
_PATIENCE_S = 3.0
"""How long to wait for killed processes that a trial has left: one may be stuck in the kernel."""
_CALL_S = 5
"""How long a client may take to send its call."""
_LARGEST_CALL = 2**26
"""Bytes of a call."""
_BREATHER_S = 0.1
"""Pause when no connection can be accepted, for example because file descriptors have run out."""


@dataclass(eq=False)
class _Running:
    """A call whose process runs, or has ended before all that it started."""

    pid: int
    mark: int
    connection: Connection[Any, Any]
    status: int = 0
    """Its wait status, once it has ended."""
    until: float = 0.0
    """When to stop waiting for the rest."""


class Server:
    """Serves until standard input closes, which its parent holds open."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._running: dict[int, _Running] = {}
        self._ending: list[_Running] = []
        self._first_mark, self._calls = descendants.first_mark(os.getpid()), 0
        self._kept = set(descendants.children(os.getpid()))
        """Children that belong to no call, such as a helper that a library has started on import."""
        self._selector = selectors.DefaultSelector()
        self._open = True

    def serve(self) -> None:
        descendants.adopt_orphans()
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._on(0, selectors.EVENT_READ, self._stop)
        self._on(wake_read, selectors.EVENT_READ, partial(os.read, wake_read, 4096))
        self._on(self._listener, selectors.EVENT_READ, self._accept)
        while self._open:
            for key, _ in self._selector.select(_AGAIN_S if self._ending else None):
                key.data()
            self._reap()
            for ended in [ended for ended in self._ending if self._is_over(ended)]:
                self._ending.remove(ended)
                self._on(ended.connection, selectors.EVENT_WRITE, partial(self._report_end, ended))
        self._end_all()

    def _on(self, file: Any, event: int, then: Callable[[], object]) -> None:
        self._selector.register(file, event, then)

    def _stop(self) -> None:
        self._open = False

    def _accept(self) -> None:
        try:
            accepted = self._listener.accept()[0]
        except OSError as error:
            sys.stderr.write(f"no connection could be accepted: {error}\n")
            time.sleep(_BREATHER_S)
            return
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _CALL_S, 0))
        connection: Connection[Any, Any] = Connection(accepted.detach())
        self._on(connection, selectors.EVENT_READ, partial(self._take_call, connection))

    def _take_call(self, connection: Connection[Any, Any]) -> None:
        """Fork a process for the call that a client has begun to send; an empty one asks for an empty answer."""
        self._selector.unregister(connection)
        try:
            message = connection.recv_bytes(_LARGEST_CALL)
            if not message:
                connection.send_bytes(b"")
        except (EOFError, OSError):
            message = b""
        if not message:
            connection.close()
            return
        mark, server = descendants.mark(self._first_mark, self._calls), os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            with contextlib.suppress(OSError):
                connection.send(child.not_started(error))
                connection.send(("exit", os.EX_OSERR << 8))
            connection.close()
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._let_go()
            child.run(message, connection, mark, server)
        self._calls += 1
        self._running[pid] = _Running(pid, mark, connection)
        # A client sends nothing more: when this becomes readable, its end has closed, which ends its call.
        self._on(connection, selectors.EVENT_READ, partial(self._drop, pid, connection))

    def _let_go(self) -> None:
        """Close, in a child, what only the server uses."""
        for key in list(self._selector.get_map().values()):
            if key.fileobj != 0:
                with contextlib.suppress(OSError):
                    key.fileobj.close() if isinstance(key.fileobj, socket.socket | Connection) else os.close(key.fd)
        for ended in self._ending:
            ended.connection.close()
        self._selector.close()

    def _drop(self, pid: int, connection: Connection[Any, Any]) -> None:
        self._selector.unregister(connection)
        _kill_group(pid)

    def _reap(self) -> None:
        """Note the calls whose process has ended, and reap orphans that have ended."""
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                running = self._running.pop(ended.si_pid, None)
                if running is not None:
                    _kill_group(ended.si_pid)  # before the wait, which frees the process id for others
                status = os.waitpid(ended.si_pid, 0)[1]
                if running is not None:
                    running.status, running.until = status, time.monotonic() + _PATIENCE_S
                    with contextlib.suppress(KeyError):
                        self._selector.unregister(running.connection)
                    self._ending.append(running)

    def _is_over(self, ended: _Running) -> bool:
        """Kill what is left of the processes that the call has started, and return whether nothing was left."""
        # The kernel's list may miss one process while another ends.
        left = self._left_by(ended) or self._left_by(ended)
        for pid in left:
            _kill(pid)
        if not left:
            return True
        if time.monotonic() < ended.until:
            return False
        sys.stderr.write(f"processes of an earlier call cannot be ended: {left}\n")
        return True

    def _left_by(self, ended: _Running) -> list[int]:
        """Return the server's children that are orphans of this call, or of one before it.

        A process without one of our marks may be another call's, and is spared until none runs.
        """
        others = {other.mark for other in (*self._running.values(), *self._ending)} - {ended.mark}
        orphans = []
        for pid in descendants.children(os.getpid()):
            if pid in self._running or pid in self._kept:
                continue
            mark = descendants.mark_of(pid)
            if mark not in others and (descendants.is_of(mark, self._first_mark) or not self._running):
                orphans.append(pid)
        return orphans

    def _report_end(self, ended: _Running) -> None:
        """Report the call's end to its client, whose connection now has room for it or is closed."""
        self._selector.unregister(ended.connection)
        with contextlib.suppress(OSError):
            ended.connection.send(("exit", ended.status))
        ended.connection.close()

    def _end_all(self) -> None:
        """End every call and what it has left, and remove the server's folder, as its owner may be dead."""
        for pid in self._running:
            _kill_group(pid)
        until = time.monotonic() + _PATIENCE_S
        while left := set(descendants.children(os.getpid())) - self._kept:
            for pid in left:
                _kill(pid)
            self._reap()
            if time.monotonic() >= until:
                break
            time.sleep(_AGAIN_S / 10)
        shutil.rmtree(Path(self._listener.getsockname()).parent, ignore_errors=True)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the group exists once the child has called setsid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
