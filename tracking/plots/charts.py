"""Curves over batch size, bars and boxes, with their colours, axes, legends and marks of failed trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from tracking.analysis.curves import Curve, Point
from tracking.names import trial_names
from tracking.record import Pass, Result, Status
from tracking.text.printable import printable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colour-blind safe set, without the yellow, which is too faint on white."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("-", "--", "-.", ":")
_GREY = "#666666"
_LABEL_WIDTH = 48
_MOST_BOXES = 50


class _Style(NamedTuple):
    colour: str
    marker: str
    dash: str


def draw_curves(
    lines: Sequence[Curve],
    title: str,
    y_label: str,
    *,
    factor: float = 1.0,
    reference: float | None = None,
    reference_name: str = "",
) -> Figure | None:
    """Draw curves over batch size, or bars where there is only one batch size; None where nothing was measured.

    `factor` turns the points' unit into the axis's; `reference` is drawn as a horizontal line, in the axis's unit.
    """
    if not any(line.points for line in lines):
        return None
    batches = sorted({b for line in lines for b in (*(p.batch for p in line.points), *(b for b, _ in line.failed))})
    if len(batches) == 1:
        return _bars(lines, f"{title}, batch {batches[0]}", y_label, factor, reference, reference_name)
    columns = math.ceil(len(lines) / 26)
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12, loc="left")
    styles = _styles(lines)
    stacked: dict[int, int] = {}
    for line, style in zip(lines, styles, strict=True):
        _curve(axes, line, style, factor, many=len(lines) > 12)
        for batch, status in line.failed:
            _mark_failure(axes, batch, status, style.colour, stacked)
    values = [point.middle * factor for line in lines for point in line.points]
    reaches = [end * factor for line in lines for point in line.points for end in (point.low, point.high)]
    if reference is not None:
        reaches.append(reference)
        axes.axhline(reference, color=_GREY, linestyle=(0, (1, 2)), linewidth=1.4, zorder=1)
        where = ("axes fraction", "data")
        axes.annotate(
            reference_name, (1, reference), (-2, -3), xycoords=where, textcoords="offset points", ha="right", va="top",
            fontsize=9, color=_GREY,
        )  # fmt: skip
    _value_axis(axes, values, reaches, y_label)
    _batch_axis(axes, batches)
    width, height = 6.6, 4.4
    if len(lines) == 1:
        axes.set_title(short(lines[0].label), fontsize=10, loc="right", color=_GREY)
    else:
        longest = max(len(short(line.label)) for line in lines)
        width += columns * (0.62 + 0.075 * longest)
        height = max(height, 0.7 + 0.2 * math.ceil(len(lines) / columns))
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9, ncols=columns, frameon=False,
            handlelength=3.2,
        )  # fmt: skip
    figure.set_size_inches(width, height)
    return figure


def draw_distributions(results: Sequence[Result], pass_name: Pass, title: str) -> Figure | None:
    """Draw a box of each trial's step times relative to its median: of the noisiest trials where there are too many."""
    names = trial_names([result.trial for result in results])
    rows = [
        (names[result.trial_id], [step / middle for step in result.passes[pass_name].step_s])
        for result in results
        if pass_name in result.passes and (middle := result.passes[pass_name].median_s) > 0
    ]
    if not rows:
        return None
    if len(rows) > _MOST_BOXES:
        title += f" (the {_MOST_BOXES} widest boxes of {len(rows)} trials)"
        rows = sorted(rows, key=lambda row: _box_width(row[1]), reverse=True)[:_MOST_BOXES]
    figure = Figure(figsize=(8, 1.5 + 0.24 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, steps) in enumerate(rows):
        low, first, middle, third, high = np.quantile(steps, (0.05, 0.25, 0.5, 0.75, 0.95))
        axes.plot((low, high), (place, place), color=COLOURS[0], linewidth=1.2, zorder=2)
        axes.barh(place, third - first, left=first, height=0.55, color="#cfe3f1", edgecolor=COLOURS[0], zorder=3)
        axes.plot((middle, middle), (place - 0.28, place + 0.28), color=COLOURS[1], linewidth=2, zorder=4)
        far = [step for step in steps if not low <= step <= high]
        axes.plot(far, [place] * len(far), color=_GREY, marker=".", markersize=4, linestyle="", alpha=0.7, zorder=1)
    axes.set_yticks(range(len(rows)), [short(name) for name, _ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    if max(max(steps) for _, steps in rows) < 3:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * (value - 1), 6):+g}%"))
    else:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xlabel(
        "step time relative to the trial's median\nbox: middle half of the steps, line: 5% to 95%, dots: the rest"
    )
    axes.set_title(title, fontsize=12, loc="left")
    frame(axes, "x")
    return figure


def _box_width(steps: Sequence[float]) -> float:
    first, third = np.quantile(steps, (0.25, 0.75))
    return float(third - first)


def _bars(
    lines: Sequence[Curve], title: str, y_label: str, factor: float, reference: float | None, reference_name: str
) -> Figure:
    """Draw a horizontal bar for each curve of a single batch size, in the order of the curves."""
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    top = max(point.high * factor for line in lines for point in line.points)
    for place, (line, style) in enumerate(zip(lines, _styles(lines), strict=True)):
        for point in line.points:
            middle = point.middle * factor
            axes.barh(place, middle, height=0.62, color=style.colour, alpha=0.85, xerr=_reach(point, factor), capsize=3)
            axes.annotate(
                f"{middle:.3g}", (point.high * factor, place), (5, 0), textcoords="offset points", va="center",
                fontsize=9,
            )  # fmt: skip
        for _, status in line.failed:
            axes.plot(top * 0.012, place, marker="x", color=style.colour, markersize=7, markeredgewidth=2)
            axes.annotate(status, (top * 0.012, place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    if reference is not None:
        axes.axvline(reference, color=_GREY, linestyle=(0, (1, 2)), linewidth=1.4)
        where = ("data", "axes fraction")
        axes.annotate(
            reference_name, (reference, 0), (-3, 3), xycoords=where, textcoords="offset points", ha="right",
            fontsize=9, color=_GREY,
        )  # fmt: skip
        top = max(top, reference)
    axes.set_yticks(range(len(lines)), [short(line.label) for line in lines], fontsize=9)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * top)
    axes.set_xlabel(y_label)
    axes.set_title(title, fontsize=12, loc="left")
    frame(axes, "x")
    return figure


def _curve(axes: Axes, line: Curve, style: _Style, factor: float, *, many: bool) -> None:
    points = line.points
    reach = [[_reach(point, factor)[side][0] for point in points] for side in (0, 1)]
    axes.errorbar(
        [point.batch for point in points],
        [point.middle * factor for point in points],
        yerr=reach if any(map(any, reach)) else None,
        label=short(line.label),
        color=style.colour,
        marker=style.marker,
        linestyle=style.dash,
        linewidth=1.3 if many else 2,
        markersize=5 if many else 7,
        markeredgecolor="white",
        markeredgewidth=0.7,
        capsize=3,
        elinewidth=1.2,
    )


def _reach(point: Point, factor: float) -> tuple[tuple[float], tuple[float]]:
    """How far the interval reaches below and above the middle, in the form that `errorbar` takes."""
    return (max(0.0, point.middle - point.low) * factor,), (max(0.0, point.high - point.middle) * factor,)


def _styles(lines: Sequence[Curve]) -> list[_Style]:
    """Colour by model, marker and dash by variant where both vary; else all three by curve."""
    models = list(dict.fromkeys(line.model for line in lines))
    variants = list(dict.fromkeys(line.variant for line in lines))
    if 1 < len(models) <= len(COLOURS) and 1 < len(variants) <= len(_MARKERS):
        return [
            _Style(
                COLOURS[models.index(line.model)],
                _MARKERS[variants.index(line.variant)],
                _DASHES[variants.index(line.variant) % len(_DASHES)],
            )
            for line in lines
        ]
    rounds = list(product(_DASHES, COLOURS))
    return [
        _Style(rounds[i % len(rounds)][1], _MARKERS[i % len(_MARKERS)], rounds[i % len(rounds)][0])
        for i in range(len(lines))
    ]


def _mark_failure(axes: Axes, batch: int, status: Status, colour: str, stacked: dict[int, int]) -> None:
    """Draw a cross at the bottom of the plot with the status beside it, above the crosses already there.

    `stacked` counts the crosses at each batch size.
    """
    height = 0.03 + 0.05 * stacked.get(batch, 0)
    stacked[batch] = stacked.get(batch, 0) + 1
    if height > 0.9:
        return
    where = axes.get_xaxis_transform()
    axes.plot(batch, height, marker="x", color=colour, transform=where, markersize=7, markeredgewidth=2, zorder=5)
    axes.annotate(
        status, (batch, height), (-7, 0), xycoords=where, textcoords="offset points", ha="right", va="center",
        fontsize=8, color=colour, zorder=5,
    )  # fmt: skip


def _batch_axis(axes: Axes, batches: Sequence[int]) -> None:
    """Put ticks at the batch sizes, on a logarithmic axis where they grow by factors over a wide range."""
    steps = [after - before for before, after in pairwise(batches)]
    if batches[-1] > 8 * batches[0] and max(steps) > 2 * min(steps):
        axes.set_xscale("log", base=2)
        places = [math.log2(batch) for batch in batches]
    else:
        places = [float(batch) for batch in batches]
    span = places[-1] - places[0]
    shown: list[int] = []
    last = -math.inf
    for batch, place in zip(batches, places, strict=True):
        if (place - last) / span >= 0.045:  # labels closer than this would touch
            shown.append(batch)
            last = place
    margin = 0.06 * span
    ends = (places[0] - margin, places[-1] + margin)
    axes.set_xlim(*((2**end for end in ends) if axes.get_xscale() == "log" else ends))
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("batch size")


def _value_axis(axes: Axes, values: Sequence[float], reaches: Sequence[float], label: str) -> None:
    """Start the axis at zero, or make it logarithmic where zero would flatten most of the values.

    `reaches` are the ends of the error bars and of whatever else must be visible.
    """
    low, high = min(values), max((*values, *reaches))
    if low > 0 and high / low > 30:
        bottom = max(min((low, *reaches)), low / 10)
        axes.set_yscale("log")
        axes.set_ylim(bottom / 1.4, high * 1.4)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if high / bottom < 2000 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    else:
        axes.set_ylim(0, high * 1.08)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_ylabel(label)
    frame(axes, "y")


def frame(axes: Axes, grid: str) -> None:
    """Keep two sides of the box, and draw grid lines for the axis `grid` (x or y)."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x" if grid == "x" else "y", alpha=0.25)


def short(label: str) -> str:
    """The label cut to a bearable length, without anything that matplotlib reads as a command or has no glyph for."""
    label = printable(label)
    label = label if len(label) <= _LABEL_WIDTH else label[: _LABEL_WIDTH - 3] + "..."
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")
