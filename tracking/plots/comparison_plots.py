"""The pictures of a comparison: each ratio with its interval; across hosts, both hosts' times and the speedup."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tracking.analysis.curves import PASS_TITLES, Curve, Point, time_curves
from tracking.analysis.stats.intervals import Ratio
from tracking.analysis.verdicts import Comparison
from tracking.folder import files
from tracking.names import host_name
from tracking.plots.charts import COLOURS, draw_curves
from tracking.record import PASSES
from tracking.text.printable import printable
from tracking.text.units import common_unit

_MOST_ROWS = 60
_FURTHEST = 20.0
"""How many times the ratio an interval is drawn to at most, since it may reach to infinity."""
_LOOKS = {
    "SLOWER": (COLOURS[1], ">"),
    "FASTER": (COLOURS[2], "<"),
    "SAME": (COLOURS[0], "o"),
    "UNDECIDED": ("#888888", "D"),
}


def draw_ratios(comparisons: Sequence[Comparison], threshold: float, path: Path) -> Path:
    """Write to `path` a row for each comparison, of the largest differences where there are too many; return `path`."""
    shown = list(comparisons)
    title = "Time of NEW over BASE, 95% intervals"
    if len(shown) > _MOST_ROWS:
        title += f"; the {_MOST_ROWS} largest of {len(shown)} differences"
        shown.sort(key=lambda row: max(row.ratio.ratio, 1 / row.ratio.ratio), reverse=True)
        shown = shown[:_MOST_ROWS]
    figure = Figure(figsize=(9, 1.7 + 0.27 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    limit = 1 + threshold
    axes.axvspan(1 / limit, limit, color=COLOURS[5], alpha=0.25, linewidth=0)
    axes.axvline(1, color="#666666", linewidth=1)
    for place, comparison in enumerate(shown):
        colour, marker = _LOOKS[comparison.verdict]
        ratio, low, high = _drawable(comparison.ratio)
        axes.errorbar(
            ratio, place, xerr=((ratio - low,), (high - ratio,)), color=colour, marker=marker, markersize=7, capsize=3
        )
    for verdict, (colour, marker) in _LOOKS.items():
        if any(comparison.verdict == verdict for comparison in shown):
            axes.plot([], [], color=colour, marker=marker, linestyle="", label=verdict.lower())
    axes.set_yticks(
        range(len(shown)),
        [f"{printable(row.pair.name)[:44]}  {PASS_TITLES[row.pass_name]}".replace("$", r"\$") for row in shown],
        fontsize=9,
    )
    axes.set_ylim(len(shown) - 0.4, -0.6)
    ends = [1.0, *(end for comparison in shown for end in _drawable(comparison.ratio)[1:])]
    if max(ends) / min(ends) > 4:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(f"new / base (below 1: faster; shaded: differences below {100 * threshold:g}%)")
    axes.set_title(title, fontsize=12, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside lower left", fontsize=9, frameon=False, ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path)
    return path


def draw_across(comparisons: Sequence[Comparison], path: Path) -> list[Path]:
    """Write two plots for each pass beside `path`, the hosts' times and their ratio, and return the paths."""
    drawn = []
    sides = _side_names(comparisons)
    for pass_name in PASSES:
        of_pass = [comparison for comparison in comparisons if comparison.pass_name == pass_name]
        if not of_pass:
            continue
        results = ([r for c in of_pass for r in c.pair.base], [r for c in of_pass for r in c.pair.new])
        lines = [
            replace(line, label=f"{line.label}, {side}", model=line.label, variant=side)
            for side, members in zip(sides, results, strict=True)
            for line in time_curves(members, pass_name)
        ]
        factor, unit = common_unit([point.middle for line in lines for point in line.points])
        title = PASS_TITLES[pass_name]
        figures = {
            "time": draw_curves(lines, f"Time per batch, {title}", f"mean time per batch ({unit})", factor=factor),
            "speedup": draw_curves(
                _speedups(of_pass),
                f"{sides[1]} against {sides[0]}, {title}",
                "times as fast",
                reference=1.0,
            ),
        }
        for kind, figure in figures.items():
            if figure is not None:
                place = path.with_name(f"{path.stem}_{kind}_{pass_name}{path.suffix}")
                _save(figure, place)
                drawn.append(place)
    return drawn


def _save(figure: Figure, path: Path) -> None:
    """Write the picture in the format of its suffix; a link of that name is replaced, not followed."""
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format=path.suffix.removeprefix(".") or "png")
    files.write(path.parent, path.name, content.getvalue())


def _drawable(ratio: Ratio) -> Ratio:
    """The ratio with its interval cut off at `_FURTHEST` times and a `_FURTHEST`th of the ratio."""
    return Ratio(ratio.ratio, max(ratio.low, ratio.ratio / _FURTHEST), min(ratio.high, ratio.ratio * _FURTHEST))


def _speedups(comparisons: Sequence[Comparison]) -> list[Curve]:
    """Base over new along the batch sizes, with the intervals that the verdicts rest on.

    Trials that repeat one work, as forward passes do whatever the optimizer, give their mean and their intervals' hull.
    """
    ratios = {comparison.pair.base[0].trial_id: _drawable(comparison.ratio) for comparison in comparisons}
    lines = time_curves([comparison.pair.base[0] for comparison in comparisons], comparisons[0].pass_name)

    def inverted(point: Point) -> Point:
        of_point = [ratios[trial_id] for trial_id in point.trial_ids]
        middle = fmean(1 / each.ratio for each in of_point)
        return replace(
            point,
            middle=middle,
            low=min(1 / each.high for each in of_point),
            high=max(1 / each.low for each in of_point),
        )

    return [replace(line, points=tuple(map(inverted, line.points))) for line in lines]


def _side_names(comparisons: Sequence[Comparison]) -> tuple[str, str]:
    """The two hosts' names where each side has one and they differ, else BASE and NEW."""
    base = {host_name(result) for comparison in comparisons for result in comparison.pair.base}
    new = {host_name(result) for comparison in comparisons for result in comparison.pair.new}
    if len(base) == len(new) == 1 and base != new:
        return base.pop() or "BASE", new.pop() or "NEW"
    return "BASE", "NEW"
