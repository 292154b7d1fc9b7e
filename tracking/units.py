"""Units for figures that people read."""

from __future__ import annotations

from collections.abc import Sequence


def seconds_unit(seconds: float) -> tuple[float, str]:
    """How many of the unit make a second, and its name: that in which `seconds` has few digits."""
    return (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")


def common_unit(seconds: Sequence[float]) -> tuple[float, str]:
    """The unit for an axis that shows them all: that of the typical one; seconds where there are none."""
    return seconds_unit(sorted(seconds)[len(seconds) // 2] if seconds else 1.0)
