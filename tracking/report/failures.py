"""The report's list of trials that failed, each with its cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracking.record import Result

STATUS_WORDS = {
    "oom": "ran out of memory",
    "timeout": "took too long",
    "error": "ended in an error",
    "crashed": "crashed",
    "infeasible": "could not run",
    "not_run": "did not run",
}
_LONGEST_CAUSE = 500
_LONGEST_DETAIL = 3_000


class FailedTrial(NamedTuple):
    """A trial that failed, why, and the end of its traceback or log where there is one."""

    name: str
    what: str
    cause: str
    detail: str


def failures(results: Sequence[Result], names: Mapping[str, str]) -> list[FailedTrial]:
    """The failed trials among `results`, in their order."""
    return [_failure(result, names[result.trial_id]) for result in results if not result.ok]


def _failure(result: Result, name: str) -> FailedTrial:
    error = result.error
    return FailedTrial(
        name=name,
        what=STATUS_WORDS[result.status],
        cause=f"{error.kind}: {error.message}"[:_LONGEST_CAUSE] if error else "no cause was recorded",
        detail=error.detail[-_LONGEST_DETAIL:] if error else "",
    )
