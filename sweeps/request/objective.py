"""The objective of an optimising sweeper: the figure of a point's results that it works with, named as in MLflow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sweeps.errors import UsageError
from sweeps.tasks import METRICS
from sweeps.wording import nearest
from tracking.analysis import metrics
from tracking.record import PASSES, Result


def names(passes: Sequence[str] = PASSES, task: str = "benchmark") -> list[str]:
    """Return the names that an objective can have for trials of this task and, if it times passes, of these passes."""
    if task in METRICS:
        return list(METRICS[task])
    of_passes = [metric.key(name) for name in passes for metric in metrics.METRICS if not metric.of_process]
    return of_passes + [metric.key() for metric in metrics.METRICS if metric.of_process]


def problems(objective: str | None, passes: Sequence[str] = PASSES, task: str = "benchmark") -> list[str]:
    """Return why trials of this task and these passes cannot have this objective, as a sentence; empty if they can."""
    if objective is None or objective in names(passes, task):
        return []
    if task not in METRICS and objective in names():
        missing = objective.partition("/")[0]
        return [f"objective={objective}: expected {missing} among passes. Received: passes=[{','.join(passes)}]."]
    hint = nearest(objective, names(passes, task)) or f" Valid: {', '.join(names(passes, task))}."
    return [f"objective={objective}: expected the name of a figure.{hint}"]


def value(results: Sequence[Result], objective: str) -> float:
    """Return the mean of the figure over a point's repeats; NaN if any of them failed or has no such figure.

    A mean over the repeats that happened to survive would favour a point that mostly fails. Raises UsageError for an
    objective that no result has.
    """
    if all(problems(objective, task=task) for task in ("benchmark", *METRICS)):
        raise UsageError(problems(objective))
    figures = [_figure(result, objective) for result in results]
    return statistics.fmean(figures) if figures else math.nan


def _figure(result: Result, objective: str) -> float:
    if not result.ok:
        return math.nan
    return {**metrics.figures_of(result), **result.metrics}.get(objective, math.nan)
