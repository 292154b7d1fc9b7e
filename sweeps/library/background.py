"""The caller's side of `sweeps.library.driver`: starts its process, listens to it and interrupts it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sweeps.errors import DispatchError
from sweeps.outcome import Outcome
from sweeps.typed.arguments import Arguments

_DRIVER = Path(__file__).resolve().parent / "driver.py"
_LAST_WORDS = 2000
"""Bytes of a dead process's standard error that the exception shows."""
_CHUNK = 2**16


def run(arguments: Arguments, *, written: Callable[[str], None], warned: Callable[[str], None]) -> Outcome:
    """Run the sweep of these arguments in a process of its own, and return its outcome.

    `written` gets what the command line would print, and `warned` each warning. Whatever exception ends the wait
    (KeyboardInterrupt, a timeout of the caller's) interrupts the sweep, which ends in order before it is raised; a
    second one ends it at once. Raises DispatchError where the process dies, with the folder of what it had begun.
    """
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as errors:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", str(_DRIVER), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches the caller, who passes it on
            )
        with process:
            try:
                with contextlib.suppress(ConnectionError):  # a process that has died is noticed below
                    ours.sendall(json.dumps([arguments.program, arguments.words]).encode() + b"\n")
                return _listen(ours, process, errors, written, warned)
            except BaseException:
                _interrupt(ours, process)
                raise


def _listen(
    connection: socket.socket,
    process: subprocess.Popen[bytes],
    errors: BinaryIO,
    written: Callable[[str], None],
    warned: Callable[[str], None],
) -> Outcome:
    folder: Path | None = None
    for kind, content in _messages(connection):
        if kind == "folder":
            folder = Path(content)
        elif kind == "text":
            written(content)
        elif kind == "warning":
            warned(content)
        else:
            return Outcome(**content)
    code = process.wait()
    errors.seek(0)
    words = errors.read()[-_LAST_WORDS:].decode(errors="replace").strip()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    error = DispatchError(f"the process that ran the sweep {how}: {words or 'it printed nothing'}")
    error.folder = folder
    raise error


def _messages(connection: socket.socket) -> Iterator[tuple[str, Any]]:
    with contextlib.suppress(ConnectionError), connection.makefile("rb") as lines:
        for line in lines:
            yield tuple(json.loads(line))


def _interrupt(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Have the sweep end in order, or at once if the wait for that is interrupted too."""
    process.send_signal(signal.SIGTERM)
    try:
        with contextlib.suppress(ConnectionError):
            while connection.recv(_CHUNK):  # a full socket would block the process
                pass
        process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        raise
