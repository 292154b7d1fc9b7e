"""What can be wrong, as exceptions.

SweepError
├── UsageError       the request is wrong; nothing ran (exit code 2)
├── DispatchError    the machinery failed; what was measured is in the journal (exit code 1)
└── StoppedError     the sweep ended itself, by `fail_fast`; what was measured is in the journal (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class SweepError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(SweepError):
    """The request cannot be carried out. Holds every problem found, one sentence each, without repeats."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


class DispatchError(SweepError):
    """The fork server or Ray could not be started or was lost."""


class StoppedError(SweepError):
    """Every trial fails alike, and the request says to stop then."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause that names the closest valid names, or all of them where there are few; empty where there are none."""
    names: Sequence[str] = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" Valid: {', '.join(names)}." if 0 < len(names) <= 12 else ""
