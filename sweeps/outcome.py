"""What a command has come to: the sweep that ran or was handed over, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Plain values, which go from one process to another as JSON."""

    exit_code: int
    error: str = ""
    """Name of the exception's class; empty: none."""
    problems: Sequence[str] = field(default_factory=list)
    """What the exception says, one sentence each."""
    sweep_id: str | None = None
    folder: str | None = None
    """The sweep's folder on this machine."""
    job: str | None = None
    """The batch job's id or name."""
