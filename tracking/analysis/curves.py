"""Results as curves over batch size, for plots and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tracking import axes
from tracking.analysis.samples import samples_of
from tracking.analysis.stats.intervals import mean_interval, ratio_interval
from tracking.analysis.stats.steps import Interval
from tracking.names import series_names
from tracking.record import Pass, Result, Status, Trial

PASS_TITLES: Mapping[Pass, str] = {
    "forward": "forward",
    "forward_backward": "forward + backward",
    "train_step": "training step",
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A figure at one batch size with its 95% interval; `middle` alone where no interval is known."""

    batch: int
    middle: float
    low: float
    high: float
    trial_ids: tuple[str, ...] = ()
    """The trials behind it, one per repeat; of a ratio, the new side's before the base's."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot. `model` and `variant` (device, precision, compiler...) are the two halves of its label."""

    label: str
    model: str
    variant: str
    points: tuple[Point, ...]
    failed: tuple[tuple[int, Status], ...] = ()
    """Batch sizes without a point, and why."""


def time_curves(results: Sequence[Result], pass_name: Pass) -> list[Curve]:
    """Mean seconds per batch. Repeats of one point give the mean of their means and the hull of their intervals."""

    def values(result: Result) -> tuple[float, float, float] | None:
        if pass_name not in result.passes:
            return None
        samples = result.passes[pass_name].step_s
        low, high = interval(samples)
        return result.passes[pass_name].mean_s, low, high

    return _curves([result for result in results if pass_name in result.trial.passes], values, pass_name)


def rate_curves(curves: Iterable[Curve]) -> list[Curve]:
    """Samples per second, from the curves of seconds per batch."""
    return [_per_second(curve, lambda point: point.batch) for curve in curves]


def token_curves(curves: Iterable[Curve], results: Iterable[Result]) -> list[Curve]:
    """Tokens per second, from the curves of seconds per batch: those of all `results` whose length is known."""
    tokens = {result.trial_id: samples_of(result).tokens for result in results}
    return [
        _per_second(curve, lambda point: tokens[point.trial_ids[0]] or 0)
        for curve in curves
        if all(tokens[trial_id] is not None for point in curve.points for trial_id in point.trial_ids)
    ]


def _per_second(curve: Curve, amount: Callable[[Point], int]) -> Curve:
    """The curve of what a step works through in a second, from the curve of its seconds."""

    def point_of(point: Point) -> Point:
        each = amount(point)
        return replace(point, middle=each / point.middle, low=each / point.high, high=each / point.low)

    return replace(curve, points=tuple(map(point_of, curve.points)))


def figure_curves(
    results: Sequence[Result], figure: Callable[[Result], float | None], pass_name: Pass | None = None
) -> list[Curve]:
    """One number per result, without an interval; repeats give their mean and their range.

    `pass_name` is the pass that the figure is about; None: the whole trial.
    """

    def values(result: Result) -> tuple[float, float, float] | None:
        value = figure(result)
        return None if value is None else (value, value, value)

    return [curve for curve in _curves(results, values, pass_name) if curve.points]


def speedup_curves(results: Sequence[Result], pass_name: Pass) -> tuple[str, list[Curve]]:
    """How many times as fast each variant is as the first one of the same work, at the batch sizes that both have.

    Returns the first variant's name where all curves share it, else an empty name and labels that include it.
    """
    groups: dict[str, dict[str, dict[int, list[Result]]]] = {}
    lines, members = _lines([result for result in results if pass_name in result.passes], pass_name)
    for line_id, line in lines.items():
        runs = groups.setdefault(axes.question_of(line).trial_id, {}).setdefault(line_id, {})
        for result in members[line_id]:
            runs.setdefault(result.trial.batch, []).append(result)
    labels = _labels(lines)
    pairs = [(next(iter(variants)), new) for variants in groups.values() for new in list(variants)[1:]]
    bases = {labels[base][2] for base, _ in pairs}
    several_models = len({labels[new][1] for _, new in pairs}) > 1
    curves = []
    for base, new in pairs:
        variants = groups[axes.question_of(lines[base]).trial_id]
        points = []
        for batch in sorted(variants[base].keys() & variants[new].keys()):
            sides = variants[new][batch], variants[base][batch]
            over, under = ([result.passes[pass_name].step_s for result in side] for side in sides)
            ratio, low, high = ratio_interval(over, under)
            ids = tuple(result.trial_id for side in sides for result in side)
            points.append(Point(batch=batch, middle=ratio, low=low, high=high, trial_ids=ids))
        if points:
            _, model, variant = labels[new]
            label = f"{model}, {variant}" if several_models else variant
            label += f" against {labels[base][2]}" if len(bases) > 1 else ""
            curves.append(Curve(label=label, model=model, variant=variant, points=tuple(points)))
    return next(iter(bases)) if len(bases) == 1 else "", curves


@lru_cache(maxsize=4096)
def interval(samples: tuple[float, ...]) -> Interval:
    """The mean's 95% interval, cached because plots and report both need it."""
    return mean_interval(samples, resamples=500)


def _curves(
    results: Sequence[Result],
    values: Callable[[Result], tuple[float, float, float] | None],
    pass_name: Pass | None,
) -> list[Curve]:
    lines, members = _lines(results, pass_name)
    labels = _labels(lines)
    curves = []
    for line_id, (label, model, variant) in labels.items():
        at: dict[int, list[tuple[float, float, float]]] = {}
        ids: dict[int, list[str]] = {}
        failed: dict[int, Status] = {}
        for result in members[line_id]:
            value = values(result)
            if value is not None:
                at.setdefault(result.trial.batch, []).append(value)
                ids.setdefault(result.trial.batch, []).append(result.trial_id)
            elif not result.ok:
                failed[result.trial.batch] = result.status
        points = tuple(
            Point(
                batch=batch,
                middle=sum(middle for middle, _, _ in at[batch]) / len(at[batch]),
                low=min(low for _, low, _ in at[batch]),
                high=max(high for _, _, high in at[batch]),
                trial_ids=tuple(ids[batch]),
            )
            for batch in sorted(at)
        )
        curves.append(
            Curve(
                label=label,
                model=model,
                variant=variant,
                points=points,
                failed=tuple((batch, failed[batch]) for batch in sorted(failed) if batch not in at),
            )
        )
    return curves


def _lines(results: Iterable[Result], pass_name: Pass | None) -> tuple[dict[str, Trial], dict[str, list[Result]]]:
    """The trial that a line's points share, and the results on it, each by the line's id, in order of appearance.

    What does not concern the pass sets no lines apart.
    """
    by_text: dict[str, tuple[Trial, list[Result]]] = {}
    for result in results:
        line = axes.line_of(axes.as_timed_by(result.trial, pass_name) if pass_name else result.trial)
        # Its text tells lines apart as its id does, at a sixth of the cost; that counts with a thousand trials.
        by_text.setdefault(repr(line), (line, []))[1].append(result)
    lines: dict[str, Trial] = {}
    members: dict[str, list[Result]] = {}
    for line, on_line in by_text.values():
        lines.setdefault(line.trial_id, line)
        members.setdefault(line.trial_id, []).extend(on_line)
    return lines, members


def _labels(lines: Mapping[str, Trial]) -> dict[str, tuple[str, str, str]]:
    """Label, model and variant of each line, by its id; labels leave out the half that all lines share."""
    names = series_names(list(lines.values()))
    halves = {line_id: names[line_id].split("/", 1) for line_id in lines}
    several_models = len({model for model, _ in halves.values()}) > 1
    several_variants = len({variant for _, variant in halves.values()}) > 1
    labels: dict[str, tuple[str, str, str]] = {}
    for line_id, (model, variant) in halves.items():
        label = f"{model}, {variant}" if several_models and several_variants else variant if several_variants else model
        if any(label == other for other, _, _ in labels.values()):
            label += f" {line_id[:6]}"
        labels[line_id] = (label, model, variant)
    return labels
