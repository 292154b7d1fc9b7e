"""The exceptions that this package raises.

SweepError
├── UsageError       the request is wrong; nothing ran (exit code 2)
├── DispatchError    the machinery failed; what was measured is in the journal (exit code 1)
└── StoppedError     the sweep ended itself, by `fail_fast`; what was measured is in the journal (exit code 1)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class SweepError(Exception):
    """Base of every error that this package raises on purpose."""

    folder: Path | None = None
    """The folder of the sweep that `sweep` was running, with what it had measured, for `sweeps.read`."""


class UsageError(SweepError):
    """The request cannot be carried out. `problems` has every reason once, as sentences."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


class DispatchError(SweepError):
    """The fork server or Ray could not be started or was lost."""


class StoppedError(SweepError):
    """Every trial failed alike, and the request says to stop then."""
