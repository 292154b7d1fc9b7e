"""Whether the user's own callables can be imported where trials will run, checked before any trial starts.

Each is imported in a child of the fork server and not called: if it crashes or hangs, that is a result of its trial.
The import itself may crash, hang or end its process as well, and is then given up and reported with its cause.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nets import NetError, custom
from sweeps.machine import host
from sweeps.plan import in_child
from sweeps.process.project import ROOT
from sweeps.worker.wire import Send
from tracking.record import Trial
from tracking.text.printable import printable

IMPORT_S = 60.0
"""How long the imports of one module may take, seconds."""
MODEL, INPUTS, LOSS = "model._target_", "inputs._target_", "loss"
"""The keys of the config that name callables."""
_LONGEST = 500


@dataclass(frozen=True)
class Target:
    """A callable, and the arguments with which trials call it."""

    name: str
    args: Mapping[str, Any]
    counts_classes: bool = False
    """Whether its task adds `num_classes` if the callable takes it."""
    config_key: str = MODEL

    @property
    def key(self) -> str:
        """What the result of an import depends on: the callable, and the names of its arguments."""
        return f"{self.setting}({','.join(sorted(self.args))}){'*' * self.counts_classes}"

    @property
    def setting(self) -> str:
        """What the user typed to name it, and what the results are filed under."""
        return f"{self.config_key}={self.name}"

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]


@dataclass
class Imports:
    """The results of imports, by setting of the target."""

    problems: dict[str, str]
    """Why it cannot be imported, or cannot be called with these arguments."""
    digests: dict[str, str]
    """Of those that can be imported, a digest of their source."""


def wanted(trials: Iterable[Trial]) -> list[Target]:
    """Return the trials' callables, once for each set of names of arguments."""
    calls = [
        Target(name, _arguments(trial, key), key == MODEL and trial.task != "benchmark", key)
        for trial in trials
        for key, name in trial.callables.items()
    ]
    return list({target.key: target for target in calls}.values())


def _arguments(trial: Trial, key: str) -> dict[str, Any]:
    """Return the arguments with which the trial calls the callable of this key; those of a loss go by place."""
    if key == MODEL:
        return dict(trial.model_args)
    if key == INPUTS:
        return {"batch": trial.batch, "seed": trial.seed} | {k: v for k, v in trial.inputs.items() if k != "_target_"}
    return {}


def look(targets: Sequence[Target], server: str, seconds: float = IMPORT_S) -> Imports:
    """Import the targets through the fork server at `server`, those of a module in one process.

    After `seconds` a module counts as hanging; those after it are left out of the result, for a later call. Raises
    DispatchError without a server.
    """
    imports = Imports({}, {})
    modules: dict[str, list[Target]] = {}
    for target in targets:
        modules.setdefault(target.module, []).append(target)
    for alike in modules.values():
        ended = _look(alike, server, seconds, imports)
        left = [target for target in alike if target.setting not in imports.problems | imports.digests]
        words = f"its import has not finished after {seconds:g} s" if ended.hung else _died(ended.status, ended.words)
        imports.problems |= {target.setting: words for target in left}
        if ended.hung:
            break
    return imports


class Checks:
    """Which targets can be imported on this machine, each of them checked once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def problems(self, trials: Iterable[Trial], server: Callable[[], str]) -> list[str]:
        """Return a sentence for each callable that cannot be imported; the fork server at `server()` tries new ones."""
        targets = wanted(trials)
        new = [target for target in targets if target.key not in self._known]
        if new:
            imports = look(new, server())
            checked = imports.problems.keys() | imports.digests.keys()
            self._known |= {t.key: imports.problems.get(t.setting, "") for t in new if t.setting in checked}
        why = {target.setting: self._known.get(target.key, "") for target in targets}
        return [sentence(setting, words) for setting, words in why.items() if words]


def sentence(setting: str, words: str, where: str = "here") -> str:
    """Return the sentence for a setting whose target cannot be imported `where`, such as `here` or `on a, b`."""
    return f"{setting}: expected a callable that can be imported {where}. Received: {words}."


def _look(targets: Sequence[Target], server: str, seconds: float, imports: Imports) -> in_child.Ended:
    """Add the results of one module's targets, and return how their process ended."""

    def receive(kind: str, value: Any) -> None:
        if kind == "problem":
            imports.problems.setdefault(targets[value[0]].setting, str(value[1]))
        elif kind == "digest":
            imports.digests[targets[value[0]].setting] = str(value[1])

    argument = [(target.name, dict(target.args), target.counts_classes, target.config_key) for target in targets]
    return in_child.run(server, "sweeps.plan.targets:import_all", argument, receive, timeout_s=seconds)


def _died(status: int | None, words: str) -> str:
    if status is not None and os.WIFSIGNALED(status):
        how = f"its import was killed by {host.signal_name(os.WTERMSIG(status))}"
    elif status is not None:
        how = f"its import has ended the process with code {os.waitstatus_to_exitcode(status)}"
    else:
        how = "its import has ended the process"
    return f"{how}: {_one_line(words)}" if words else how


def import_all(targets: Sequence[tuple[str, Mapping[str, Any], bool, str]], send: Send) -> None:
    """Import each target and send ("digest", (index, of its source)), or ("problem", (index, why not))."""
    for index, (name, args, counts_classes, key) in enumerate(targets):
        try:
            classes = {"num_classes": 2} if counts_classes and custom.takes(name, "num_classes") else {}
            if key == LOSS:
                custom.loss(name)
            else:
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
    """Return the line of the user's code that raised the error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    users = [frame for frame in frames if not frame.filename.startswith((sys.prefix, sys.base_prefix, str(ROOT)))]
    return f" ({users[-1].filename}, line {users[-1].lineno})" if users else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return printable(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")
