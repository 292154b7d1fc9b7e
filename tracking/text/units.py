"""Units for figures that people read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


def seconds_unit(seconds: float) -> tuple[float, str]:
    """How many of the unit make a second, and its name: that in which `seconds` has few digits."""
    return (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")


def common_unit(seconds: Sequence[float]) -> tuple[float, str]:
    """The unit for an axis that shows all of these: that of the typical one; seconds where there are none."""
    return seconds_unit(sorted(seconds)[len(seconds) // 2] if seconds else 1.0)


def local_time(seconds: float) -> str:
    """A moment, in seconds since the epoch, on the user's own clock; `?` where no calendar has it."""
    return _moment(time.localtime, seconds) or "?"


def utc_time(seconds: float) -> str:
    """The same for readers elsewhere."""
    moment = _moment(time.gmtime, seconds)
    return f"{moment} UTC" if moment else "?"


def _moment(clock: Callable[[float], time.struct_time], seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", clock(seconds))
    except (OverflowError, ValueError, OSError):
        return ""
