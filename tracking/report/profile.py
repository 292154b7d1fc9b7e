"""The report's tables of what profiled steps spent their time on, from the files that the trials left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracking.analysis.curves import PASS_TITLES
from tracking.folder import files
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Result, Sweep

_MOST = 100
"""Tables in one report."""


class Operation(NamedTuple):
    """An operation of a profiled step."""

    name: str
    calls: int
    total_ms: float
    percent: float
    """Share of the time of all operations."""


class ProfiledPass(NamedTuple):
    """A pass of a trial and the operations of its profiled step, those that took longest first."""

    title: str
    operations: list[Operation]


class Profile(NamedTuple):
    """What a sweep's profiled steps spent their time on."""

    passes: list[ProfiledPass]
    left_out: int
    """Passes beyond what one page should hold."""


def profiled_passes(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> Profile:
    """The profiled passes whose files are there and whole."""
    passes = [
        ProfiledPass(f"{names[result.trial_id]}, {PASS_TITLES[name]}", operations)
        for result in results
        if result.trial.profile
        for name in result.passes
        if (operations := _operations(sweep.folder, str(TrialFolder.within("", result.trial_id).top_ops(name))))
    ]
    return Profile(passes[:_MOST], left_out=max(0, len(passes) - _MOST))


def _operations(folder: str, name: str) -> list[Operation]:
    """The rows of the table in that file; none where it is missing or damaged."""
    try:
        return [_operation(*row) for row in json.loads(files.read(folder, name))["data"]]
    except (OSError, ValueError, OverflowError, LookupError, TypeError, RecursionError):
        return []


def _operation(name: object, calls: float, total_ms: float, share: float) -> Operation:
    """Raises TypeError, ValueError or OverflowError where one of the figures is not a finite number."""
    return Operation(str(name), int(calls), float(total_ms), 100 * float(share))
