"""Figures and lists as the report prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tracking.text.units import seconds_unit


def thousands(count: int) -> str:
    """The number with commas, e.g. `12,345`."""
    return f"{count:,}"


def fixed(value: float, places: int) -> str:
    """The number with this many decimal places and commas."""
    return f"{value:,.{places}f}"


def significant(value: float) -> str:
    """Four significant digits, and every digit before the point."""
    if not value:
        return "0"
    return fixed(value, max(0, 3 - math.floor(math.log10(abs(value)))))


def seconds(value: float) -> str:
    """Seconds in the unit that suits them, e.g. `12.34 ms`."""
    factor, unit = seconds_unit(value)
    return f"{significant(value * factor)} {unit}"


def seconds_range(low: float, high: float) -> str:
    """Two times in seconds, in the unit that suits the lower one, e.g. `12.30 to 12.41 ms`."""
    factor, unit = seconds_unit(low)
    return f"{significant(low * factor)} to {significant(high * factor)} {unit}"


def plus_minus(mean: float, sd: float) -> str:
    """Seconds with two digits of their standard deviation, and the mean to the same place, e.g. `12.3 ± 1.1 ms`."""
    factor, unit = seconds_unit(mean)
    places = min(6, max(0, 1 - math.floor(math.log10(sd * factor)))) if sd else 3
    return f"{fixed(mean * factor, places)} ± {fixed(sd * factor, places)} {unit}"


def duration(total: float) -> str:
    """Whole seconds as hours, minutes and seconds, e.g. `2 h 5 min` or `3 min 12 s`."""
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(words: Sequence[str]) -> str:
    """The words joined by commas and `and`; beyond four, the first three and how many more there are."""
    if len(words) > 4:
        return f"{', '.join(words[:3])} and {len(words) - 3} more"
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
