"""Runs code that may crash, hang or send anything in a child of the fork server, before any trial."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.errors import DispatchError
from sweeps.worker import log_tail, wire
from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.limits import Watch

_LAST_WORDS = 3


@dataclass(frozen=True)
class Ended:
    """How the child ended."""

    status: int | None
    """Its wait status; None where that is unknown."""
    words: str
    """The last lines that it wrote."""
    hung: bool
    """Whether it was ended because its time was up."""


def run(server: str, function: str, argument: Any, receive: Callable[[str, Any], None], *, timeout_s: float) -> Ended:
    """Run `module:function` with this argument, and pass each message that it sends to `receive`.

    Raises DispatchError where the fork server at `server` does not do its part.
    """
    status: int | None = None
    with (
        connect(server) as connection,
        tempfile.NamedTemporaryFile() as log,
        Watch(connection, started=time.perf_counter(), timeout_s=timeout_s) as watch,
    ):
        # What is suppressed: the server was lost, or the user's code has written into the connection.
        with contextlib.suppress(EOFError, OSError, wire.MessageError):
            connection.send(Call(function=function, argument=argument, log=log.name))
            inbox = wire.Inbox(connection.fileno())
            while status is None:
                for kind, value in inbox.arrived():
                    if kind == "pid":
                        watch.process(value)
                    elif kind == "exit":
                        status = value
                    else:
                        receive(kind, value)
        if watch.lost:
            raise DispatchError(watch.lost)
        return Ended(status, log_tail.tail(Path(log.name), _LAST_WORDS), watch.exceeded is not None)
