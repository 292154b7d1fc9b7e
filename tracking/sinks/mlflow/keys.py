"""Keys and texts in the form that MLflow and its database accept."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from tracking.names import metric_word
from tracking.text.printable import printable_lines

LONGEST_VALUE = 5_000
"""Characters of a tag or parameter; servers of MLflow 2 refuse more."""
_LONGEST_KEY = 250
Value = TypeVar("Value")


def fitting_key(key: str) -> str:
    """The key as MLflow takes it; a slash within it stays, since it groups metrics.

    MLflow also makes paths of keys, and refuses those that are none: empty parts, `.` and `..`.
    """
    parts = [metric_word(part) for part in key[:_LONGEST_KEY].split("/")]
    path = "/".join(part if part.strip(".") else "_" for part in parts)[:_LONGEST_KEY].rstrip("/ ") or "_"
    return f"_{path[1:]}" if path.startswith("..") else path


def fitting(values: Mapping[str, str]) -> dict[str, str]:
    """Texts as MLflow and its database take them; of two whose keys become the same, the first."""
    fitting: dict[str, str] = {}
    for key, text in values.items():
        fitting.setdefault(fitting_key(key), printable_lines(text[:LONGEST_VALUE])[:LONGEST_VALUE])
    return fitting


def distinct(named: Iterable[tuple[str, Value]], taken: Collection[str]) -> dict[str, Value]:
    """The values by keys that MLflow takes, none of which is another's: a task's figures never replace the system's."""
    renamed: dict[str, Value] = {}
    for name, value in named:
        key = first = fitting_key(name)
        for count in itertools.count(1):
            if key not in renamed and key not in taken:
                break
            key = f"task/{first[: _LONGEST_KEY - 20]}" + (f" {count}" if count > 1 else "")
        renamed[key] = value
    return renamed
