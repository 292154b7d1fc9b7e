"""The paths that a trial reads: made absolute once, when the command is read, and shown as they were typed.

A relative path means the folder in which the command was typed, wherever and whenever the trial runs: on a Ray worker
with a folder of its own, in a batch job, in a sweep that is resumed from elsewhere.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.process import paths
from tracking.record import Trial

_OF_TASKS = ("data", "images", "labels")
_OF_MODELS = ("weights", "path")
KEYS = (*(f"model.{key}" for key in _OF_MODELS), *(f"task.{key}" for key in _OF_TASKS))
"""Keys that hold a path, or several."""
_TYPED = tuple(f"{key}=" for key in KEYS)
_HOMES = re.compile(r"(?<=[=,\[])~[^,'\"\[\]]*")


def quoted(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with quotes around paths that begin with a home, `~/w.npy`, which Hydra needs."""
    return [
        _HOMES.sub(lambda match: f"'{match[0]}'", argument) if argument.lstrip("+").startswith(_TYPED) else argument
        for argument in arguments
    ]


def absolute(trial: Trial, folder: Path) -> Trial:
    """Return the trial with its paths made absolute from `folder`; its id stays the same."""
    return _with_paths(trial, lambda path: _absolute(path, folder))


def moved(trial: Trial, folder: Path) -> Trial:
    """Return the trial with the paths that were typed as relative ones made absolute from another folder."""
    relative = {key: value for key, value in trial.as_typed.items() if not _begins_with_home(value)}
    kept = {key: value for key, value in trial.as_typed.items() if key not in relative}
    before = _replaced(trial, relative, as_typed={})
    after = absolute(before, folder)
    return replace(after, as_typed={**kept, **after.as_typed})


def as_typed(trial: Trial, sentence: str) -> str:
    """Return a sentence about `KEY=PATH` with the path as the user typed it, if it means the same in this folder."""
    for key, value in trial.as_typed.items():
        typed, read = _listed(value), _listed(_values(trial).get(key))
        for one, other in zip(typed, read, strict=False):
            start = f"{key}={other}"
            if sentence.startswith(start) and _absolute(one, Path.cwd()) == other:
                return f"{key}={one}{sentence[len(start) :]}"
    return sentence


def relative(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each path of a composed config that depends on the current folder, with its key."""
    for key in KEYS:
        group, _, name = key.partition(".")
        for path in _listed(values[group].get(name)):
            if path and not path.startswith(("/", "~")):
                yield key, path


def _with_paths(trial: Trial, change: Callable[[str], str]) -> Trial:
    typed, new = dict(trial.as_typed), {}
    for key, value in _values(trial).items():
        before = list(value) if _several(value) else [value]
        after = [change(each) if isinstance(each, str) else each for each in before]
        if after != before:
            typed.setdefault(key, value)
            new[key] = after if _several(value) else after[0]
    return _replaced(trial, new, as_typed=typed) if new else trial


def _replaced(trial: Trial, values: Mapping[str, Any], as_typed: Mapping[str, Any]) -> Trial:
    """Return the trial with these paths, by their keys, in place of its own."""
    task_args = {key: values.get(f"task.{key}", value) for key, value in trial.task_args.items()}
    weights, path = values.get("model.weights", trial.weights), values.get("model.path", trial.path)
    return replace(trial, weights=weights, path=path, task_args=task_args, as_typed=as_typed)


def _values(trial: Trial) -> dict[str, Any]:
    """Return the trial's paths, by those of KEYS that it has."""
    given = {f"model.{key}": getattr(trial, key) for key in _OF_MODELS}
    given |= {f"task.{key}": trial.task_args.get(key) for key in _OF_TASKS}
    return {key: value for key, value in given.items() if value is not None}


def _several(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _listed(value: Any) -> list[str]:
    return [each for each in (value if _several(value) else [value]) if isinstance(each, str)]


def _begins_with_home(value: Any) -> bool:
    return any(path.startswith("~") for path in _listed(value))


def _absolute(path: str, folder: Path) -> str:
    """Return the path made absolute from the folder, with its `..` and links; an absolute one unchanged."""
    path = os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111 - a Path refuses unknown users
    if not path or path.startswith("/") or "\0" in path:
        return path
    whole = f"{folder}/{path.removeprefix('./')}".replace("//", "/")
    if paths.kind(whole) == "a path where there is none" and glob.has_magic(path):
        return f"{glob.escape(str(folder))}/{path.removeprefix('./')}"  # a pattern, in a folder of any name
    return whole
