"""The pictures of a sweep, as PNG files in its folder's `plots/`.

`draw` makes the curves over batch sizes, after seed 001's two plots (time of every device, and their ratio), and the
distributions; `tracking.plots.step_plots` draws the step times of one trial. Every figure is its own object on the Agg
canvas: nothing here touches pyplot or any other state of the caller's matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from tracking.analysis import curves
from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.peaks import Peaks
from tracking.folder import files
from tracking.plots.charts import draw_curves, draw_distributions
from tracking.plots.roofline import draw_roofline
from tracking.plots.task_plots import draw_objective
from tracking.record import PASSES, Pass, Result, Sweep
from tracking.text.units import common_unit


def draw(sweep: Sweep, results: Sequence[Result], folder: str | Path) -> list[Path]:
    """Write every picture that `results` give into `folder/plots/` and return their paths: no figures, no picture."""
    planned = {trial.trial_id: position for position, trial in enumerate(sweep.trials)}
    results = sorted(results, key=lambda result: planned.get(result.trial_id, len(planned)))
    pictures: dict[str, Figure | None] = {}
    for pass_name in PASSES:
        pictures |= _of_pass(results, pass_name)
    for figure, owner in (("peak_rss_mb", "the trial's process"), ("peak_device_mb", "the device")):
        lines = curves.figure_curves(results, partial(_attribute, figure))
        pictures[figure.removesuffix("_mb")] = draw_curves(lines, f"Peak memory of {owner}", "peak memory (MB)")
    pictures |= draw_objective(results, sweep.facts.get("objective"))
    written = []
    for name, picture in pictures.items():
        if picture is not None:
            content = io.BytesIO()
            picture.savefig(content, dpi=110)
            files.write(folder, f"plots/{name}.png", content.getvalue())
            written.append(Path(folder, "plots", f"{name}.png"))
    return written


def _of_pass(results: Sequence[Result], pass_name: Pass) -> dict[str, Figure | None]:
    title = PASS_TITLES[pass_name]
    times = curves.time_curves(results, pass_name)
    factor, unit = common_unit([point.middle for line in times for point in line.points])
    speeds = curves.figure_curves(results, partial(_gflops_per_s, pass_name))
    peaks = Peaks(results)
    known = [peaks.of(result) for result in results if pass_name in result.passes]
    highest = {peak.gflops_per_s if peak else None for peak in known}
    reference = next(iter(highest)) if len(highest) == 1 else None
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
            speeds, f"Achieved arithmetic rate, {title}", "GFLOP/s", reference=reference, reference_name="measured peak"
        ),
        f"roofline_{pass_name}": draw_roofline(results, pass_name, f"Roofline, {title}"),
        f"distribution_{pass_name}": draw_distributions(results, pass_name, f"Spread of the step times, {title}"),
    }


def _attribute(name: str, result: Result) -> float | None:
    value: float | None = getattr(result, name)
    return value


def _gflops_per_s(pass_name: Pass, result: Result) -> float | None:
    return result.passes[pass_name].gflops_per_s if pass_name in result.passes else None
