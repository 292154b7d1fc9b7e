"""The process in which `sweeps.sweep` runs a sweep: it does what the command line does, and reports over a socket.

A process of its own neither changes the caller's signals, environment, imports, Hydra and Ray, nor suffers from them.
Messages are JSON, one per line. The first is the caller's, with the arguments; when the socket closes, the caller has
gone.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# As a script, this file's folder is first on the path, and the packages beside it cannot be found.
sys.path[:] = [str(ROOT), *(place for place in sys.path if place != str(ROOT / "sweeps"))]

from sweeps.errors import UsageError
from sweeps.outcome import Outcome
from sweeps.run import started
from sweeps.typed.arguments import Arguments


class Caller:
    """The other end of the socket: the process that called `sweep` and waits."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def arguments(self) -> Arguments:
        """Return the caller's arguments, its first message."""
        program, words = json.loads(self._lines.readline())
        return Arguments(program=program, words=tuple(words))

    def watch(self) -> None:
        """Terminate this process in order when the caller has gone."""
        threading.Thread(target=self._interrupt_at_the_end, daemon=True).start()

    def send(self, kind: str, content: Any) -> None:
        """Send a message; a caller that has gone is no error."""
        message = json.dumps([kind, content]).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(message)
        except OSError:
            pass  # `watch` ends the sweep in order

    def _interrupt_at_the_end(self) -> None:
        self._lines.read()
        os.kill(os.getpid(), signal.SIGTERM)


class Output(io.TextIOBase):
    """A standard output whose text is sent to the caller."""

    encoding = "utf-8"

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._caller.send("text", text)
        return len(text)


def main(descriptor: int) -> None:
    """Run the sweep that the caller on this socket requests, and send it all that the command line would print."""
    # The caller's thread may have blocked them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
    caller = Caller(descriptor)
    arguments = caller.arguments()
    caller.watch()
    try:
        with started(arguments) as server:
            sys.stdout = Output(caller)
            from sweeps import command
            from sweeps.library.relay import Relay

            outcome = command.conduct(server, arguments, Relay(caller.send))
    except UsageError as error:
        outcome = Outcome(exit_code=2, error=UsageError.__name__, problems=error.problems)
    caller.send("outcome", asdict(outcome))


if __name__ == "__main__":
    main(int(sys.argv[1]))
