"""Rules by which trials need not run: their batch cannot fit in memory, or one cause makes every trial fail.

`rules` lists those that a config asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tracking import axes
from tracking.record import PASSES, Failure, Pass, Result, Trial

SKIPPED = "Skipped"
"""The kind of failure of a trial that was not, or not wholly, run because of what another one showed."""
_WHOLE = ""
"""Stands for the only pass of a trial whose task has none."""


class Limit(NamedTuple):
    """What remains of a trial of which some passes are known not to fit."""

    passes: tuple[Pass, ...]
    """Those that may fit, and are run."""
    reason: Failure
    """Why the others are not run."""


class StopRule:
    """A rule by which trials need not run, in whole or in part. It lasts as long as the session."""

    def recall(self, result: Result) -> None:
        """Take into account, once, a result that the sweep had before this session, e.g. when it is resumed."""

    def note(self, result: Result) -> None:
        """Take into account the next result of this session."""

    def limit(self, trial: Trial) -> Limit | None:
        """Return what remains of a trial that is next; None: all of it."""
        del trial
        return None

    def reason_to_stop(self) -> str | None:
        """Return why the sweep ends now, with trials left; None: it goes on."""
        return None


class Ceiling(StopRule):
    """Remembers which passes ran out of memory: the same pass with a larger batch would too, and need not run."""

    def __init__(self, results: Iterable[Result] = ()) -> None:
        self._lowest: dict[tuple[str, str], int] = {}
        for result in results:
            self.recall(result)

    def note(self, result: Result) -> None:
        self.recall(result)

    def recall(self, result: Result) -> None:
        """Remember the passes that this result shows to run out of memory."""
        skipped = result.error is not None and result.error.kind == SKIPPED
        if result.status != "oom" or skipped:
            return
        alike, batch = _apart_from_batch(result.trial), result.trial.batch
        for name in _ran_out(result):
            self._lowest[alike, name] = min(batch, self._lowest.get((alike, name), batch))

    def limit(self, trial: Trial) -> Limit | None:
        if not self._lowest:
            return None
        alike = _apart_from_batch(trial)
        ceilings = {name: self._lowest.get((alike, name), trial.batch) for name in trial.passes or (_WHOLE,)}
        too_large = {name: batch for name, batch in ceilings.items() if batch < trial.batch}
        if not too_large:
            return None
        fit = tuple(name for name in trial.passes if name not in too_large)
        cause = f"skipped: ran out at batch {min(too_large.values())}"
        return Limit(fit, Failure(kind=SKIPPED, message=f"{', '.join(too_large)} {cause}" if fit else cause))


def _ran_out(result: Result) -> Sequence[str]:
    """Return the passes that do not fit: the one that was not completed, and training if inference does not."""
    passes = result.trial.passes
    if not passes:
        return (_WHOLE,)
    first = next((name for name in passes if name not in result.passes), passes[-1])
    return PASSES[PASSES.index(first) :]


def _apart_from_batch(trial: Trial) -> str:
    """Return what a pass's memory depends on besides its batch, as a key."""
    values = (getattr(trial, axis.name) for axis in axes.AXES if axis.of_memory)
    return repr([json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value for value in values])


class FailFast(StopRule):
    """Notices when the first `count` trials that ran have all failed with the same cause; None: never."""

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._causes: list[Failure | None] = []

    def note(self, result: Result) -> None:
        skipped = result.error is not None and result.error.kind == SKIPPED
        if self._count is not None and not skipped and len(self._causes) < self._count:
            self._causes.append(result.error)

    def reason_to_stop(self) -> str | None:
        if self._count is None or len(self._causes) < self._count:
            return None
        first = self._causes[0]
        if first is None or any(cause is None or _alike(cause) != _alike(first) for cause in self._causes):
            return None
        return f"fail_fast={self._count}: the first to end failed alike, {first.kind}: {first.message}"


def _alike(cause: Failure) -> tuple[str, str]:
    """Return what failures with the same cause share; sizes and shapes in their messages vary with the batch."""
    return cause.kind, re.sub(r"\d+", "#", cause.message)


class StopRules(StopRule):
    """Several rules as one: what remains of a trial is what the first rule that limits it leaves."""

    def __init__(self, rules: Sequence[StopRule]) -> None:
        self._rules = rules

    def recall(self, result: Result) -> None:
        for rule in self._rules:
            rule.recall(result)

    def limit(self, trial: Trial) -> Limit | None:
        return next((limit for rule in self._rules if (limit := rule.limit(trial)) is not None), None)

    def note(self, result: Result) -> None:
        for rule in self._rules:
            rule.note(result)

    def reason_to_stop(self) -> str | None:
        return next((reason for rule in self._rules if (reason := rule.reason_to_stop()) is not None), None)


def rules(config: Any) -> StopRules:
    """Return the rules that a config asks for; their options are settings in `sweeps.typed.keys`."""
    return StopRules([*([Ceiling()] if config.oom_ceiling else []), FailFast(config.fail_fast)])
