"""Nested values as flat text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as text under dotted keys, without those that are None."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = text_of(value)
    return flat


def pairs(values: Mapping[str, Any]) -> str:
    """Nested values in one line, sorted by key: `a.b=1 c=text`."""
    return " ".join(f"{key}={text}" for key, text in sorted(flatten(values).items()))


def text_of(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
