"""The number that an optimising sweeper gets for a point: one figure of its results, named as in MLflow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sweeps.errors import UsageError, nearest
from sweeps.tasks import METRICS
from tracking.analysis import metrics
from tracking.record import PASSES, Result


def names(passes: Sequence[str] = PASSES, task: str = "benchmark") -> list[str]:
    """The objectives that trials of this task can have; for a benchmark, those of these passes."""
    if task in METRICS:
        return list(METRICS[task])
    of_passes = [metric.key(name) for name in passes for metric in metrics.METRICS if not metric.of_process]
    return of_passes + [metric.key() for metric in metrics.METRICS if metric.of_process]


def problems(objective: str | None, passes: Sequence[str] = PASSES, task: str = "benchmark") -> list[str]:
    """Why trials of this task and these passes cannot have this objective; empty if they can."""
    if objective is None or objective in names(passes, task):
        return []
    if task not in METRICS and objective in names():
        wanted = objective.partition("/")[0]
        return [f"objective={objective}: expected {wanted} among passes. Received: passes=[{','.join(passes)}]."]
    close = nearest(objective, names(passes, task)) or f" Valid: {', '.join(names(passes, task))}."
    return [f"objective={objective}: expected the name of a figure.{close}"]


def value(results: Sequence[Result], objective: str) -> float:
    """The mean of the figure over a point's repeats; NaN when any of them failed or has no such figure.

    A mean over the surviving repeats only would favour a point that mostly fails. Raises UsageError for an objective
    that no task has.
    """
    if all(problems(objective, task=task) for task in ("benchmark", *METRICS)):
        raise UsageError(problems(objective))
    figures = [_figure(result, objective) for result in results]
    return statistics.fmean(figures) if figures else math.nan


def _figure(result: Result, objective: str) -> float:
    if not result.ok:
        return math.nan
    return {**metrics.figures_of(result), **result.metrics}.get(objective, math.nan)
