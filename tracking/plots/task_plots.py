"""Pictures of tasks that report more than times: learning curves, and the headline figure over what a sweep varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from tracking.axes import AXES, reset
from tracking.names import trial_names
from tracking.plots.charts import COLOURS, frame, short
from tracking.record import Result, Trial

_PARTS = {"train": (COLOURS[0], "training", "--"), "val": (COLOURS[1], "validation", "-")}
_GREY = "#666666"
_MOST_LINES = 14


def draw_training(result: Result, path: str | Path) -> None:
    """Write to `path` the curves of loss and accuracy over epochs, the kept epoch marked; no file without curves."""
    kinds = [kind for kind in ("loss", "accuracy") if result.curves.get(f"val/{kind}")]
    if not kinds:
        return
    figure = Figure(figsize=(5.2 * len(kinds), 3.9), layout="constrained")
    best = result.metrics.get("best/epoch")
    for place, kind in enumerate(kinds, start=1):
        axes = figure.add_subplot(1, len(kinds), place)
        for part, (colour, name, dash) in _PARTS.items():
            points = result.curves.get(f"{part}/{kind}", ())
            marker = "o" if len(points) <= 30 else ""
            axes.plot(*zip(*points, strict=True), dash, color=colour, marker=marker, markersize=4, label=name)
        if best is not None and f"val/{kind}" in result.metrics:
            value = result.metrics[f"val/{kind}"]
            axes.plot(
                best,
                value,
                "o",
                color="none",
                markeredgecolor=COLOURS[1],
                markersize=11,
                markeredgewidth=1.6,
                clip_on=False,
            )
            words = f"{value:.1%}" if kind == "accuracy" else f"{value:.3g}"
            axes.set_title(f"kept: epoch {best:.0f}, {words}", fontsize=10, loc="right", color=COLOURS[1])
        if kind == "accuracy":
            axes.set_ylim(0, 1.04)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(kind, fontsize=11, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        frame(axes, "y")
        axes.legend(frameon=False, fontsize=9)
    rate = result.trial.task_args.get("learning_rate")
    title = [result.trial.model, f"batch {result.trial.batch}", "" if rate is None else f"learning rate {rate:g}"]
    title += [_cause(result)] if result.error else []
    figure.suptitle(short(", ".join(filter(None, title))), fontsize=11, x=0.01, ha="left")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


class _Axis(NamedTuple):
    """A numeric value that a sweep varied."""

    name: str
    values: Mapping[str, float]
    """By trial id."""


def headline(results: Sequence[Result], objective: str | None = None) -> str | None:
    """The figure that says most about these results: the sweep's objective, else the first that their task reported."""
    keys = dict.fromkeys(key for result in results for key in result.metrics)
    return objective if objective in keys else next(iter(keys), None)


def draw_objective(results: Sequence[Result], objective: str | None = None) -> dict[str, Figure]:
    """The headline figure over each number that was varied, or a bar for each trial where none was; by file name."""
    tasks = [result for result in results if result.trial.task != "benchmark"]
    figure = headline(tasks, objective)
    if figure is None or len(tasks) < 2:
        return {}
    file_name = figure.replace("/", "_")
    axes = _numeric_axes([result.trial for result in tasks])
    if not axes:
        return {file_name: _bars(tasks, figure)}
    return {f"{file_name}_over_{axis.name}": _scatter(tasks, figure, axis) for axis in axes}


def _numeric_axes(trials: Sequence[Trial]) -> list[_Axis]:
    axes: list[_Axis] = []
    flat = {trial.trial_id: _numbers(trial) for trial in trials}
    for name in dict.fromkeys(name for values in flat.values() for name in values):
        values = {trial_id: numbers[name] for trial_id, numbers in flat.items() if name in numbers}
        if len(values) == len(flat) and len(set(values.values())) > 1:
            axes.append(_Axis(name, values))
    return axes


def _numbers(trial: Trial) -> dict[str, float]:
    labels = {axis.name: axis.label_of(trial) for axis in AXES if axis.role != "repetition"}
    plain = {name: label for name, label in labels.items() if isinstance(label, int)}
    own: dict[str, Any] = {**plain, **trial.model_args, **trial.task_args}
    return {
        name: float(value)
        for name, value in own.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _scatter(results: Sequence[Result], key: str, axis: _Axis) -> Figure:
    """Draw the figure over the axis: a line for each combination of everything else where they are few, else dots."""
    lines: dict[str, list[Result]] = {}
    others = {result.trial_id: _without(result.trial, axis.name) for result in results}
    names = trial_names(others.values())
    for result in results:
        lines.setdefault(names[others[result.trial_id].trial_id], []).append(result)
    joined = len(lines) <= _MOST_LINES and len(lines) < len(results)
    if not joined:
        models = dict.fromkeys(result.trial.model for result in results)
        lines = {model: [result for result in results if result.trial.model == model] for model in models}
    figure = Figure(figsize=(7.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    low, high = min(axis.values.values()), max(axis.values.values())
    if low > 0 and high / low >= 10:
        axes.set_xscale("log")
    good = [result.metrics[key] for result in results if result.ok and key in result.metrics]
    failed_at: dict[float, int] = {}
    for place, (name, members) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = sorted((axis.values[r.trial_id], r.metrics[key]) for r in members if r.ok and key in r.metrics)
        if points:
            style = ("-", "--", "-.", ":")[place // len(COLOURS) % 4] if joined else ""
            axes.plot(*zip(*points, strict=True), "o", linestyle=style, color=colour, label=short(name), markersize=6)
        for result in members:
            if not result.ok:
                _mark_failed(axes, axis.values[result.trial_id], result, colour, failed_at)
    _label(axes, key, good)
    _number_ticks(axes, sorted(set(axis.values.values())))
    axes.set_xlabel(axis.name.replace("_", " "))
    axes.set_title(f"{key} over {axis.name.replace('_', ' ')}", fontsize=12, loc="left")
    if len(lines) > 1:
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    elif joined:
        axes.set_title(short(next(iter(lines))), fontsize=10, loc="right", color=_GREY)
    return figure


def _bars(results: Sequence[Result], key: str) -> Figure:
    names = trial_names([result.trial for result in results])
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(results)), layout="constrained")
    axes = figure.add_subplot()
    for place, result in enumerate(results):
        value = result.metrics.get(key, 0.0) if result.ok else 0.0
        axes.barh(place, value, height=0.62, color=COLOURS[0], alpha=0.85)
        words = _value(key, value) if result.ok else _cause(result)
        colour = "black" if result.ok else COLOURS[1]
        axes.annotate(words, (value, place), (5, 0), textcoords="offset points", va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(results)), [short(names[result.trial_id]) for result in results], fontsize=9)
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(1e-9, *(result.metrics.get(key, 0.0) for result in results)))
    if _is_share(key):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_title(key, fontsize=12, loc="left")
    frame(axes, "x")
    return figure


def _without(trial: Trial, name: str) -> Trial:
    """The trial apart from one of its numbers."""
    if rows := [axis for axis in AXES if axis.name == name and isinstance(axis.label_of(trial), int)]:
        return reset(trial, rows)
    dropped = {key: value for key, value in trial.task_args.items() if key != name}
    arguments = {key: value for key, value in trial.model_args.items() if key != name}
    return replace(trial, task_args=dropped, model_args=arguments)


def _mark_failed(axes: Axes, x: float, result: Result, colour: str, failed_at: dict[float, int]) -> None:
    """Draw a cross at the bottom with the cause beside it, above the crosses already there."""
    height = 0.04 + 0.06 * failed_at.get(x, 0)
    failed_at[x] = failed_at.get(x, 0) + 1
    where = axes.get_xaxis_transform()
    axes.plot(x, height, "x", color=colour, transform=where, markersize=8, markeredgewidth=2, zorder=5)
    left = x == max(axes.get_xlim()) or x >= sum(axes.dataLim.intervalx) / 2
    axes.annotate(
        _cause(result), (x, height), (-9 if left else 9, 0), xycoords=where, textcoords="offset points",
        ha="right" if left else "left", va="center", fontsize=8, color=colour, zorder=5,
    )  # fmt: skip


def _cause(result: Result) -> str:
    kind = result.error.kind.removesuffix("Error").lower() if result.error else ""
    return kind if result.status == "error" and kind else result.status


def _label(axes: Axes, key: str, values: Sequence[float]) -> None:
    axes.set_ylabel(key)
    if _is_share(key):
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    elif values and min(values) > 0:
        axes.set_ylim(0, 1.1 * max(values))
    frame(axes, "y")


def _number_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Put ticks at the values themselves where they are few."""
    if len(values) <= 8:
        axes.xaxis.set_major_locator(FixedLocator(list(values)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(x=0.08)


def _is_share(key: str) -> bool:
    return key.endswith(("accuracy", "share")) or key.startswith("probability")


def _value(key: str, value: float) -> str:
    return f"{value:.1%}" if _is_share(key) else f"{value:.4g}"
