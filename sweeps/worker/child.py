"""A call, and the process of its own that runs it, forked from the fork server."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from sweeps.worker import descendants, messages
from tracking.record import Failure

NOT_STARTED = "NotStarted"
"""Kind of the failure of a call that never ran."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call in a fresh process: `function` is `package.module:name` and gets `argument` and a `send`."""

    function: str
    argument: Any
    cores: tuple[int, ...] = ()
    """Cores that the process and all its threads are bound to; none: those of the server."""
    env: Mapping[str, str] = field(default_factory=dict)
    log: str = os.devnull
    """File that takes the process's standard output and error."""


def not_started(error: BaseException) -> tuple[str, Any]:
    """Return the message, as kind and content, that a call could not be started, with the reason."""
    text = f"the trial's process could not be started: {type(error).__name__}: {error}"
    return messages.encoded(messages.Failed("crashed", Failure(kind=NOT_STARTED, message=text)))


def exit_code(leaving: SystemExit) -> int:
    """Return the code with which Python ends a process: 0 for None, 1 for anything that is not a number."""
    if leaving.code is None:
        return 0
    return leaving.code & 0xFF if isinstance(leaving.code, int) else 1


def run(message: bytes, connection: Connection[Any, Any], mark: int, server: int) -> NoReturn:
    """Run the pickled call and end this process, whatever happens; `server` is the parent's process id."""
    process, status = os.getpid(), 1

    def send(kind: str, value: Any) -> None:
        if os.getpid() != process:
            _end_copy()
        connection.send((kind, value))

    try:
        os.setsid()
        descendants.end_with(server)
        descendants.bear(mark)
        send("pid", process)
        try:
            call = pickle.loads(message)
            _prepare(call)
            module, _, name = call.function.partition(":")
            function = getattr(importlib.import_module(module), name)
        except Exception as error:
            send(*not_started(error))
            raise
        function(call.argument, send)
        status = 0
    except SystemExit as leaving:
        status = exit_code(leaving)
        sys.excepthook(*sys.exc_info())
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        if os.getpid() != process:
            _end_copy()
        # A log on a full disk does not make the trial a failure, and its code may have replaced these streams.
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _end_copy() -> NoReturn:
    """End a copy of the process: the call's code has forked, and its child came back here to continue as the trial."""
    with contextlib.suppress(OSError):
        os.write(2, f"process {os.getpid()} is a copy of the trial's, which continues alone: ended\n".encode())
    os._exit(1)


def _prepare(call: Call) -> None:
    """Set up the call's log, cores and environment. Raises OSError."""
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(
        call.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644
    )
    if not stat.S_ISREG(os.fstat(log).st_mode) and call.log != os.devnull:
        raise OSError(f"expected a plain file for the log. Received: {call.log}")
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.set_blocking(log, True)
    if call.cores:
        os.sched_setaffinity(0, call.cores)
    os.environ.update(call.env)
