"""The pictures of a sweep, as PNG files in its folder's `plots/`.

`draw` makes the curves over batch sizes, after seed 001's two plots (time of every device, and their ratio), and the
distributions; `draw_steps` the step times of one trial. Every figure is its own object on the Agg canvas: nothing here
touches pyplot or any other state of the caller's matplotlib.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from tracking import curves
from tracking.charts import COLOURS, draw_curves, draw_distributions, seconds_unit
from tracking.curves import PASS_TITLES
from tracking.record import PASSES, Measurement, Pass, Result, Sweep
from tracking.stats import median_interval, outliers


def draw(sweep: Sweep, results: Sequence[Result], folder: str | Path) -> list[Path]:
    """Write every picture that `results` give into `folder/plots/` and return their paths: no figures, no picture."""
    place = Path(folder) / "plots"
    place.mkdir(parents=True, exist_ok=True)
    planned = {trial.trial_id: position for position, trial in enumerate(sweep.trials)}
    results = sorted(results, key=lambda result: planned.get(result.trial_id, len(planned)))
    pictures: dict[str, Figure | None] = {}
    for pass_name in PASSES:
        pictures |= _of_pass(results, pass_name)
    for figure, owner in (("peak_rss_mb", "the trial's process"), ("peak_device_mb", "the device")):
        lines = curves.figure_curves(results, partial(_attribute, figure))
        pictures[figure.removesuffix("_mb")] = draw_curves(lines, f"Peak memory of {owner}", "peak memory (MB)")
    written = []
    for name, picture in pictures.items():
        if picture is not None:
            path = place / f"{name}.png"
            picture.savefig(path, dpi=110)
            written.append(path)
    return written


def _of_pass(results: Sequence[Result], pass_name: Pass) -> dict[str, Figure | None]:
    title = PASS_TITLES[pass_name]
    times = curves.time_curves(results, pass_name)
    unit, factor = seconds_unit([point.middle for line in times for point in line.points])
    speeds = curves.figure_curves(results, partial(_gflops_per_s, pass_name))
    peaks = {result.limits.get("peak_gflops_per_s") for result in results if pass_name in result.passes}
    peak = next(iter(peaks)) if len(peaks) == 1 else None
    base, ratios = curves.speedup_curves(results, pass_name)
    return {
        f"time_per_batch_{pass_name}": draw_curves(
            times, f"Time per batch, {title}", f"mean time per batch ({unit})", factor=factor
        ),
        f"images_per_s_{pass_name}": draw_curves(
            curves.rate_curves(times), f"Throughput, {title}", "images per second"
        ),
        f"speedup_{pass_name}": draw_curves(
            ratios, f"Speedup over {base}, {title}" if base else f"Speedup, {title}", "times as fast", reference=1.0
        ),
        f"gflops_per_s_{pass_name}": draw_curves(
            speeds, f"Achieved arithmetic rate, {title}", "GFLOP/s", reference=peak, reference_name="measured peak"
        ),
        f"distribution_{pass_name}": draw_distributions(results, pass_name, f"Spread of the step times, {title}"),
    }


def _attribute(name: str, result: Result) -> float | None:
    value: float | None = getattr(result, name)
    return value


def _gflops_per_s(pass_name: Pass, result: Result) -> float | None:
    return result.passes[pass_name].gflops_per_s if pass_name in result.passes else None


def draw_steps(result: Result, pass_name: Pass, path: str | Path) -> None:
    """Write to `path` the step times of one pass in order: warm-up, outliers and the median's interval marked.

    Raises KeyError when the result has no such pass. One call takes some 30 ms, since it is made for every trial.
    """
    measured = result.passes[pass_name]
    with _trace_lock:
        trace = _traces.get("steps") or _traces.setdefault("steps", _Trace())
        trace.show(
            measured, f"{result.trial.model}  batch {result.trial.batch}  {result.trial.device.label}", pass_name
        )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        trace.figure.savefig(path, dpi=80, pil_kwargs={"compress_level": 1})


class _Trace:
    """One figure whose lines take each trial's numbers in turn: making axes costs more than drawing them."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(8, 3.4))
        self.axes = self.figure.add_axes((0.085, 0.145, 0.895, 0.66))
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.grid(axis="y", alpha=0.25)
        self.axes.set_xlabel("step")
        self.title = self.figure.text(0.012, 0.94, "", fontsize=11, parse_math=False)
        self.band = self.axes.axhspan(0, 1, color=COLOURS[5], alpha=0.35, linewidth=0, label="median, 95% interval")
        (self.median,) = self.axes.plot((0, 1), (0, 0), color=COLOURS[0], linewidth=1)
        (self.steps,) = self.axes.plot([], [], color=COLOURS[0], marker=".", linewidth=0.8, label="timed step")
        (self.warmup,) = self.axes.plot([], [], color="#888888", marker=".", linewidth=0.8, label="warm-up")
        (self.odd,) = self.axes.plot(
            [], [], color=COLOURS[1], marker="o", fillstyle="none", linestyle="", markersize=8, label="outlier"
        )
        (self.above,) = self.axes.plot(
            [], [], color="#888888", marker="^", linestyle="", clip_on=False, label="beyond the axis"
        )
        self.legend = self.figure.legend(
            loc="upper right", bbox_to_anchor=(0.99, 0.91), ncols=5, fontsize=8, frameon=False, borderaxespad=0
        )

    def show(self, measured: Measurement, name: str, pass_name: Pass) -> None:
        unit, factor = seconds_unit(measured.step_s)
        warmup = [factor * seconds for seconds in measured.warmup_s]
        steps = [factor * seconds for seconds in measured.step_s]
        odd = outliers(steps)
        # The first warm-up steps can be a hundred times the rest, which would hide it: they get an arrow instead.
        top = 1.08 * max(max(steps), min(max(warmup, default=0.0), 1.3 * max(steps)))
        low, high = median_interval(steps)
        self.band.set_bounds(0, low, len(steps), high - low)
        self.median.set_data((0, len(steps)), (factor * measured.median_s,) * 2)
        self.steps.set_data(range(len(steps)), steps)
        self.warmup.set_data(range(-len(warmup), 0), warmup)
        self.odd.set_data(odd, [steps[i] for i in odd])
        beyond = [i - len(warmup) for i, value in enumerate(warmup) if value > top]
        self.above.set_data(beyond, [top] * len(beyond))
        dense = len(steps) + len(warmup) > 300
        for line in (self.steps, self.warmup):
            line.set_markersize(2 if dense else 5)
        self.axes.set_xlim(-len(warmup) - 0.5, len(steps) - 0.5)
        self.axes.set_ylim(0, top)
        self.axes.set_ylabel(f"step time ({unit})")
        self.title.set_text(
            f"{name}  {PASS_TITLES[pass_name]}: {factor * measured.mean_s:.4g} +/- {factor * measured.sd_s:.2g} {unit} "
            f"in {len(steps)} steps"
        )


_trace_lock = threading.Lock()
_traces: dict[str, _Trace] = {}
