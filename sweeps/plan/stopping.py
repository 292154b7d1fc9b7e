"""Decides when trials need not run any more: a batch that cannot fit, a cause that makes every trial fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracking import axes
from tracking.record import PASSES, Failure, Pass, Result, Trial

SKIPPED = "Skipped"
"""Kind of the failure of a trial that was not run as a whole, because of what another one showed."""
_WHOLE = ""
"""Stands for the pass of a trial that has none."""


class Limit(NamedTuple):
    """What is left of a trial that is known not to fit as a whole."""

    passes: tuple[Pass, ...]
    """Those that may fit, and are run."""
    reason: Failure
    """Why the others are not."""


class Ceiling:
    """Where passes ran out of memory: the same one with a larger batch would too, and need not be run."""

    def __init__(self, results: Iterable[Result] = ()) -> None:
        self._lowest: dict[tuple[str, str], int] = {}
        for result in results:
            self.note(result)

    def note(self, result: Result) -> None:
        skipped = result.error is not None and result.error.kind == SKIPPED
        if result.status != "oom" or skipped:
            return
        alike, batch = _apart_from_batch(result.trial), result.trial.batch
        for name in _ran_out(result):
            self._lowest[alike, name] = min(batch, self._lowest.get((alike, name), batch))

    def limit(self, trial: Trial) -> Limit | None:
        """What is left of the trial; None: all of it."""
        if not self._lowest:
            return None
        alike = _apart_from_batch(trial)
        known = {name: self._lowest.get((alike, name), trial.batch) for name in trial.passes or (_WHOLE,)}
        out = {name: lowest for name, lowest in known.items() if lowest < trial.batch}
        if not out:
            return None
        fit = tuple(name for name in trial.passes if name not in out)
        words = f"skipped: ran out at batch {min(out.values())}"
        return Limit(fit, Failure(kind=SKIPPED, message=f"{', '.join(out)} {words}" if fit else words))


def _ran_out(result: Result) -> Sequence[str]:
    """The passes that do not fit: the one that was not completed, and training where inference does not."""
    passes = result.trial.passes
    if not passes:
        return (_WHOLE,)
    first = next((name for name in passes if name not in result.passes), passes[-1])
    return PASSES[PASSES.index(first) :]


def _apart_from_batch(trial: Trial) -> str:
    """What a pass's memory depends on besides its batch, as a key."""
    values = (getattr(trial, axis.name) for axis in axes.AXES if axis.of_memory)
    return repr([json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value for value in values])


class FailFast:
    """Whether the first `count` trials that were run have failed with one and the same cause."""

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._causes: list[Failure | None] = []

    def note(self, result: Result) -> str | None:
        """Take note of the next result; a sentence when it is time to stop."""
        skipped = result.error is not None and result.error.kind == SKIPPED
        if self._count is None or skipped or len(self._causes) == self._count:
            return None
        self._causes.append(result.error)
        first = self._causes[0]
        if first is None or len(self._causes) < self._count:
            return None
        if any(cause is None or _alike(cause) != _alike(first) for cause in self._causes):
            return None
        return f"fail_fast={self._count}: the first to end failed alike, {first.kind}: {first.message}"


def _alike(cause: Failure) -> tuple[str, str]:
    """What failures of one cause share: sizes and shapes in their messages differ from batch to batch."""
    return cause.kind, re.sub(r"\d+", "#", cause.message)
