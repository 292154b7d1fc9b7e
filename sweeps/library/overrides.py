"""Writes Python's values as the words of a command line: `{"batch": [1, 2]}` as `batch=1,2`.

A list is a grid, a tuple is one value with several parts, and a mapping goes a level down. Where a key holds a list
anyway, as `passes` does, a plain list is its value and a list of lists is a grid. In `optimizer`, `protocol`, `task`
and `cluster`, `name` chooses, as in `protocol={"name": "classic", "steps": 10}`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache

from sweeps.clusters.kinds import KINDS
from sweeps.errors import UsageError
from sweeps.tasks.options import TASK_CONFS
from sweeps.typed import command_line
from sweeps.typed.keys import Value

_KEY = re.compile(r"[+~]{0,2}[^\s=,+~-][^\s=,]*")
_OPEN = ("model.", "inputs.", "optimizer.", "device.resources.", "device.node_labels.")
"""Prefixes of keys that users may add."""
_CHOSEN = ("optimizer.name", "protocol.name", "task.name", "cluster.name")


def words(overrides: Sequence[str | Sequence[str] | Mapping[str, Value]], keys: Mapping[str, Value]) -> tuple[str, ...]:
    """Return these overrides and keys as words of the command line.

    Text is an override as it is typed there. Raises UsageError with everything that cannot be written as one.
    """
    typed: list[str] = []
    problems: list[str] = []
    for override in overrides:
        texts: Sequence[object] = [override] if isinstance(override, str | Mapping) else _elements(override)
        for text in texts:
            if isinstance(text, Mapping):
                typed += _settings("", text, problems)
            elif isinstance(text, str) and (text.startswith("~") or ("=" in text and not text.startswith("-"))):
                typed.append(text)
            else:
                problems.append(
                    f"expected overrides such as 'batch=1,2' or mappings such as {{'batch': [1, 2]}}. {_got(text)}"
                )
    typed += _settings("", keys, problems)
    if problems:
        raise UsageError(problems)
    return tuple(typed)


def _elements(override: object) -> Sequence[object]:
    return list(override) if isinstance(override, Sequence) else [override]


def _settings(prefix: str, values: Mapping[str, Value], problems: list[str]) -> Iterator[str]:
    """Yield each value of the mapping as KEY=VALUE; add what cannot be one to `problems`."""
    for name, value in values.items():
        if not isinstance(name, str) or not _KEY.fullmatch(name):
            problems.append(f"expected the name of a key. {_got(name)}")
            continue
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _settings(f"{key}.", value, problems)
            continue
        try:
            text = _choices(key, _plain(value))
        except _NoValueError as error:
            problems.append(f"{key}: expected {error}")
            continue
        if key in _CHOSEN:
            yield f"{key.removesuffix('.name')}={text}"
        else:
            yield f"{'++' if key.startswith(_open_groups()) else ''}{key}={text}"


def _choices(key: str, value: object) -> str:
    """Return the value, or the values of a grid with commas between them. Raises _NoValueError."""
    if not isinstance(value, list):
        return _text(value)
    if key in _list_keys() and not any(isinstance(element, list | tuple) for element in value):
        return _text(tuple(value))
    if not value:
        raise _NoValueError("at least one value in a grid. Received: [].")
    return ",".join(_text(tuple(element) if isinstance(element, list) else element) for element in value)


class _NoValueError(Exception):
    """A value that cannot be written on the command line; the message says what was expected and what was received."""


def _text(value: object) -> str:
    """Return one value as Hydra reads it, so that it keeps its type. Raises _NoValueError."""
    value = _plain(value)
    if value is None:
        return "null"
    if isinstance(value, bool | int | float | str):
        return command_line.text(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_text(key)}:{_text(inner)}' for key, inner in value.items())}}}"
    hint = ""
    if callable(value):
        hint = " A function goes by its dotted name, such as model={'_target_': 'my_module.my_net'}."
    raise _NoValueError(f"text, numbers, True, False, None, a path, or lists of these. {_got(value)}{hint}")


def _plain(value: object) -> object:
    """Return the value with paths as text, ranges as lists, and types of NumPy and pandas as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, range):
        return list(value)
    if callable(to_list := getattr(value, "tolist", None)):
        return to_list()
    return value


@cache
def _list_keys() -> frozenset[str]:
    """Return the keys whose values are lists."""
    groups = {"cluster": KINDS.values(), "task": TASK_CONFS.values()}
    # Slurm's also take a plain text, which no type of OmegaConf's can express.
    several = {"cluster.setup", "cluster.sbatch"}
    return _of_type("list[", groups) | several | {"passes", "tracking.sinks", "task.images"}


@cache
def _open_groups() -> tuple[str, ...]:
    """Return the prefixes of keys that the config need not have already."""
    groups = {"cluster": KINDS.values()}
    return (*_OPEN, "cluster.sbatch.", *(f"{key}." for key in _of_type("dict[", groups)))


def _of_type(kind: str, groups: Mapping[str, object]) -> frozenset[str]:
    return frozenset(
        f"{group}.{field.name}"
        for group, schemas in groups.items()
        for schema in schemas  # type: ignore[attr-defined]
        for field in fields(schema)
        if kind in str(field.type)
    )


def _got(value: object) -> str:
    return f"Received: {value!r:.200}."
