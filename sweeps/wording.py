"""Numbers that are too small, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def at_least(prefix: str, values: Mapping[str, Any], lows: Mapping[str, float]) -> list[str]:
    """A sentence for each of the values that is below its low, or no number; None is in order. Keys follow `prefix`."""
    return [
        f"{prefix}{key}={_text(value)}: expected at least {_text(low)}. Received: {_text(value)}."
        for key, low in lows.items()
        if (value := values[key]) is not None and not value >= low  # NaN is neither above nor below
    ]


def above(prefix: str, values: Mapping[str, Any], lows: Mapping[str, float]) -> list[str]:
    """As `at_least`, for values that must be more than their low."""
    return [
        f"{prefix}{key}={_text(value)}: expected more than {_text(low)}. Received: {_text(value)}."
        for key, low in lows.items()
        if (value := values[key]) is not None and not value > low
    ]


def _text(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
