"""The outcome of a command: the sweep that ran or was submitted, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Plain values, which travel between processes as JSON."""

    exit_code: int
    error: str = ""
    """Name of the class of the exception that ended the command; empty: none did."""
    problems: Sequence[str] = field(default_factory=list)
    """The exception's message, one sentence per problem."""
    sweep_id: str | None = None
    folder: str | None = None
    """The sweep's folder on this machine."""
    job: str | None = None
    """The batch job's id or name."""
