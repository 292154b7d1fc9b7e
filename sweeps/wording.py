"""Phrases that messages share: counts, durations, shortened lists, nearest names, and values that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import ge, gt
from typing import Any

from nets.errors import did_you_mean


def at_least(prefix: str, values: Mapping[str, Any], lows: Mapping[str, float]) -> list[str]:
    """Return a sentence for each of the values below its lower bound; None is in order, NaN is not.

    `lows` has the values' keys, which follow `prefix` in the sentences.
    """
    return _out_of_range("at least", ge, prefix, values, lows)


def above(prefix: str, values: Mapping[str, Any], lows: Mapping[str, float]) -> list[str]:
    """Return a sentence for each of the values not above its lower bound; otherwise like `at_least`."""
    return _out_of_range("more than", gt, prefix, values, lows)


def at_most(prefix: str, values: Mapping[str, Any], highs: Mapping[str, float]) -> list[str]:
    """Return a sentence for each of the values above its upper bound; None and NaN count as above none."""
    return _out_of_range("at most", lambda value, high: not value > high, prefix, values, highs)


def needs(setting: str, other: str, received: str) -> str:
    """Return the sentence for a setting that makes sense only together with another one."""
    return f"{setting}: expected {other} with it. Received: {received}."


def nearest(name: str, valid: Collection[str]) -> str:
    """Return a clause with the closest valid names, or with all where there are few; empty where there are none."""
    listed = f" Valid: {', '.join(sorted(valid))}." if 0 < len(valid) <= 12 else ""
    return did_you_mean(name, valid) or listed


def counted(count: int, noun: str) -> str:
    """Return the number with its noun: `1 trial`, `2 trials`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def listed(names: Sequence[str], most: int) -> str:
    """Return the names with commas between them, those after the first `most` only counted: `a, b and 5 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def duration(seconds: float) -> str:
    """Return a duration with its unit, rounded: `1.5 s`, `20 s`, `3 min`, `2.0 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _out_of_range(
    expected: str,
    holds: Callable[[Any, float], bool],
    prefix: str,
    values: Mapping[str, Any],
    limits: Mapping[str, float],
) -> list[str]:
    return [
        f"{prefix}{key}={_text(value)}: expected {expected} {_text(limit)}. Received: {_text(value)}."
        for key, limit in limits.items()
        if (value := values[key]) is not None and not holds(value, limit)  # NaN compares with nothing
    ]


def _text(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
