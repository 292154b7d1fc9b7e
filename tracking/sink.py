"""Where results go besides the journal: the interface that every sink implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from tracking.record import Result, Sweep


class SinkError(Exception):
    """A sink could not take a sweep or a result; the journal still has it."""


class Sink(ABC):
    """One destination, named by its `str`. Every call is idempotent: the same sweep or result again changes nothing."""

    def preload(self) -> None:  # noqa: B027 - most sinks have nothing to load
        """Load slow imports ahead of `open`, on any thread. Whatever it raises, `open` may raise again."""

    @abstractmethod
    def open(self, sweep: Sweep) -> None:
        """Begin the sweep, or continue it where it exists already. Raises SinkError."""

    @abstractmethod
    def write(self, result: Result) -> None:
        """Keep one result, whatever its status. Raises SinkError; the same result may then be written again."""

    @abstractmethod
    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """End the sweep: its summary and the files of its folder (plots, tables, report). Raises SinkError."""

    def limit(self, seconds: float) -> None:  # noqa: B027 - most sinks answer at once
        """Bound the calls that follow: after this many seconds they give up with a SinkError. `math.inf`: no bound."""

    @property
    def page(self) -> str:
        """Where the sweep is on the sink's own web pages, below their address; empty for a sink without pages."""
        return ""
