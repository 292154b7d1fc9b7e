"""Where results go besides the journal: the interface that every sink implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tracking.record import Result, Sweep


class SinkError(Exception):
    """A sink could not take what it was given; the journal still has it."""


class Sink(Protocol):
    """One destination. Every call is idempotent: the same sweep or result again changes nothing."""

    def open(self, sweep: Sweep) -> None:
        """Begin the sweep, or continue it where it is there already. Raises SinkError."""

    def write(self, result: Result) -> None:
        """Keep one result, whatever its status. Raises SinkError; the same result may then be written again."""

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """End the sweep: its summary and the files of its folder (plots, tables, report). Raises SinkError."""
