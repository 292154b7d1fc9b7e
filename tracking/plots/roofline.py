"""The roofline of a sweep (Williams, Waterman and Patterson, 2009): achieved rate over arithmetic intensity.

Intensity is a pass's operations over the bytes that it cannot avoid moving: each layer's output written and read once
and each parameter read once, at the trial's precision; a training step moves three times that (forward, and the
gradients with respect to inputs and to parameters), and with an optimizer also writes each trainable parameter once.
Caches and fused layers move less, so points may lie above the slanted roof. The flat roof is the highest rate that the
device is known to reach (`tracking.analysis.peaks`): only a trial that skipped some of its work lies above it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from tracking.analysis.peaks import Peaks
from tracking.axes import as_timed_by
from tracking.names import series_names
from tracking.plots.charts import COLOURS
from tracking.record import Pass, Result

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#666666"
_BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2, "float16": 2}


def intensity(result: Result, pass_name: Pass) -> float | None:
    """Operations per byte of one step; None without a layer table or a count of operations."""
    flops = result.passes[pass_name].flops
    traffic = sum(
        2 * row.activation_bytes + _BYTES[result.trial.precision] * (row.trainable_params + row.other_params)
        for row in result.layers
    )
    if not flops or not traffic:
        return None
    if pass_name != "forward":
        traffic *= 3
    if pass_name == "train_step":
        traffic += _BYTES[result.trial.precision] * sum(row.trainable_params for row in result.layers)
    return flops / traffic


def draw_roofline(results: Sequence[Result], pass_name: Pass, title: str) -> Figure | None:
    """Draw a point for each batch size and a line for each net and device, under the devices' measured roofs.

    Repeats are one point, the mean of their rates.

    None where no trial has a rate, an intensity and a calibrated device.
    """
    timed = {result.trial_id: as_timed_by(result.trial, pass_name) for result in results}
    series = series_names([*timed.values()])
    names = {trial_id: series[trial.trial_id] for trial_id, trial in timed.items()}
    peaks = Peaks(results)
    measured: dict[str, dict[tuple[int, float], list[float]]] = defaultdict(lambda: defaultdict(list))
    roofs: dict[str, tuple[float, float]] = {}
    for result in results:
        if pass_name not in result.passes or (peak := peaks.of(result)) is None:
            continue
        rate, dense = result.passes[pass_name].gflops_per_s, intensity(result, pass_name)
        if rate and dense:
            measured[names[result.trial_id]][result.trial.batch, dense].append(rate)
            roofs[peak.where] = (
                max(peak.gflops_per_s, roofs.get(peak.where, (0.0, 0.0))[0]),
                result.limits["copy_gb_per_s"],
            )
    if not measured:
        return None
    lines = {
        name: sorted((batch, dense, fmean(rates)) for (batch, dense), rates in points.items())
        for name, points in measured.items()
    }
    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    xs = [dense for points in lines.values() for _, dense, _ in points]
    ridges = [rate / copy for rate, copy in roofs.values()]
    left, right = min(*xs, *ridges) / 2, max(*xs, *ridges) * 2
    lowest = min(rate for points in lines.values() for *_, rate in points)
    for name, (rate, copy) in roofs.items():
        ridge = rate / copy
        axes.plot((left, ridge, right), (left * copy, rate, rate), color=_GREY, linewidth=1.4, zorder=1)
        label = name if len(roofs) > 1 else ""
        axes.annotate(f"{label} {rate:,.0f} GFLOP/s, {copy:.3g} GB/s".strip(), (right, rate), (-4, 4), ha="right",
                      textcoords="offset points", fontsize=9, color=_GREY)  # fmt: skip
    for place, (name, points) in enumerate(lines.items()):
        axes.plot(
            [dense for _, dense, _ in points],
            [rate for *_, rate in points],
            color=COLOURS[place % len(COLOURS)],
            marker=_MARKERS[place // len(COLOURS) % len(_MARKERS)],
            markersize=6,
            linewidth=1,
            label=name.replace("/", ", "),
        )
        for batch, dense, rate in (points[0], points[-1]):
            axes.annotate(f"b={batch}", (dense, rate), (5, -10), textcoords="offset points", fontsize=8, color=_GREY)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    floor = min(lowest, *(left * copy for _, copy in roofs.values()))
    axes.set_ylim(floor / 1.5, 2 * max(rate for rate, _ in roofs.values()))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xlabel("operations per byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(title, fontsize=12, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    return figure
