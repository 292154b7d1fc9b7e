"""Whether the user's own callables can be imported where trials will run; asked before any trial is started.

Each is imported in a child of the fork server and not called: what it builds, a crash and a hang of it are its trial's.
The import itself may crash, hang or end its process as well, and is then given up with the cause.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nets import NetError, custom
from sweeps.errors import DispatchError
from sweeps.machine import host
from sweeps.process.project import ROOT
from sweeps.worker import log_tail, wire
from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.limits import Watch
from sweeps.worker.wire import Send
from tracking.record import Trial
from tracking.text.printable import printable

IMPORT_S = 60.0
"""How long the imports of one module may take, seconds."""
_LAST_WORDS = 3
_LONGEST = 500


@dataclass(frozen=True)
class Target:
    """A callable, and the arguments with which trials call it."""

    name: str
    args: Mapping[str, Any]
    counts_classes: bool = False
    """Its task adds `num_classes` where the callable takes it."""

    @property
    def key(self) -> str:
        """What one look at it is good for."""
        return f"{self.name}({','.join(sorted(self.args))}){'*' * self.counts_classes}"

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]


@dataclass
class Imports:
    """What has become of the imports, by name of the target."""

    problems: dict[str, str]
    """Why it cannot be imported, or cannot be called so."""
    digests: dict[str, str]
    """Of those that can be imported, what tells their source from another one."""


def wanted(trials: Iterable[Trial]) -> list[Target]:
    """The trials' callables, once for each set of arguments' names."""
    calls = [
        Target(trial.target, dict(trial.model_args), trial.task != "benchmark")
        for trial in trials
        if trial.target is not None
    ]
    return list({target.key: target for target in calls}.values())


def look(targets: Sequence[Target], server: str, seconds: float = IMPORT_S) -> Imports:
    """Import the targets through the fork server at `server`, those of a module in one process.

    After a module that hangs the others are left to the next look. Raises DispatchError without a server.
    """
    found = Imports({}, {})
    modules: dict[str, list[Target]] = {}
    for target in targets:
        modules.setdefault(target.module, []).append(target)
    for alike in modules.values():
        status, words, hangs = _look(alike, server, seconds, found)
        left = [target for target in alike if target.name not in found.problems | found.digests]
        if left and hangs:
            words = f"its import has not come to an end after {seconds:g} s"
        elif left:
            words = _died(status, words)
        found.problems |= {target.name: words for target in left}
        if hangs:
            break
    return found


class Checks:
    """What this machine says of targets, each looked at once; `problems` says which cannot be imported here."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def problems(self, trials: Iterable[Trial], server: Callable[[], str]) -> list[str]:
        """Import what the trials call and has not been looked at, through the fork server at `server()`."""
        targets = wanted(trials)
        new = [target for target in targets if target.key not in self._known]
        if new:
            found = look(new, server())
            looked = found.problems.keys() | found.digests.keys()
            self._known |= {t.key: found.problems.get(t.name, "") for t in new if t.name in looked}
        why = {target.name: self._known.get(target.key, "") for target in targets}
        return [sentence(name, words) for name, words in why.items() if words]


def sentence(target: str, words: str, where: str = "here") -> str:
    """That the target cannot be imported `where`, in words such as `here` or `on a, b`."""
    return f"model._target_={target}: expected a callable that can be imported {where}. Received: {words}."


def _look(targets: Sequence[Target], server: str, seconds: float, found: Imports) -> tuple[int | None, str, bool]:
    """Add what becomes of one module's targets; its process's wait status, last words, and whether it hung."""
    status: int | None = None
    with (
        connect(server) as connection,
        tempfile.NamedTemporaryFile() as log,
        Watch(connection, started=time.perf_counter(), timeout_s=seconds) as watch,
    ):
        # What is suppressed: the server was lost, or the module has written into the connection.
        with contextlib.suppress(EOFError, OSError, wire.MessageError):
            argument = [(target.name, dict(target.args), target.counts_classes) for target in targets]
            connection.send(Call(function="sweeps.plan.targets:import_all", argument=argument, log=log.name))
            inbox = wire.Inbox(connection.fileno())
            while status is None:
                for kind, value in inbox.arrived():
                    if kind == "pid":
                        watch.process(value)
                    elif kind == "exit":
                        status = value
                    elif kind == "problem":
                        found.problems.setdefault(targets[value[0]].name, str(value[1]))
                    elif kind == "digest":
                        found.digests[targets[value[0]].name] = str(value[1])
        if watch.lost:
            raise DispatchError(watch.lost)
        return status, log_tail.tail(Path(log.name), _LAST_WORDS), watch.exceeded is not None


def _died(status: int | None, words: str) -> str:
    if status is not None and os.WIFSIGNALED(status):
        how = f"its import has died of {host.signal_name(os.WTERMSIG(status))}"
    elif status is not None:
        how = f"its import has ended the process with code {os.waitstatus_to_exitcode(status)}"
    else:
        how = "its import has taken the process along"
    return f"{how}: {_one_line(words)}" if words else how


def import_all(targets: Sequence[tuple[str, Mapping[str, Any], bool]], send: Send) -> None:
    """Import each target and send ("digest", (index, of its source)), or ("problem", (index, why not))."""
    for index, (name, args, counts_classes) in enumerate(targets):
        try:
            classes = {"num_classes": 2} if counts_classes and custom.takes(name, "num_classes") else {}
            custom.imported(name, **{**classes, **args})
            digest = hashlib.sha256(b"".join(path.read_bytes() for path in custom.sources(name))).hexdigest()[:16]
        except NetError as error:
            send("problem", (index, _one_line(str(error).rstrip("."))))
        except Exception as error:
            words = _one_line(f"{type(error).__name__}: {error}".rstrip(": ."))
            send("problem", (index, f"{words}{_place(error)}"))
        else:
            send("digest", (index, digest))


def _place(error: Exception) -> str:
    """The line of the user's own that has raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    own = [frame for frame in frames if not frame.filename.startswith((sys.prefix, sys.base_prefix, str(ROOT)))]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return printable(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")
