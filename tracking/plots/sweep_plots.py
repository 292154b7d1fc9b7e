"""The pictures of a sweep, as PNG files in its folder's `plots/`.

`draw` makes the charts of `tracking.plots.sweep_charts`, rooflines, the spread of step times and a task's headline
figure; `tracking.plots.step_plots` draws the step times of one trial. Every figure is its own object on the Agg canvas:
nothing here touches pyplot or any other state of the caller's matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tracking.analysis.curves import PASS_TITLES
from tracking.folder import files
from tracking.plots.charts import draw_curves, draw_distributions
from tracking.plots.roofline import draw_roofline
from tracking.plots.sweep_charts import DrawnChart, sweep_charts
from tracking.plots.task_plots import draw_objective
from tracking.record import PASSES, Result, Sweep
from tracking.text.units import common_unit


def draw(sweep: Sweep, results: Sequence[Result], folder: str | Path) -> list[Path]:
    """Write every picture that `results` have figures for into `folder/plots/` and return their paths."""
    planned = {trial.trial_id: position for position, trial in enumerate(sweep.trials)}
    results = sorted(results, key=lambda result: planned.get(result.trial_id, len(planned)))
    pictures: dict[str, Figure | None] = {drawn.file_name: _chart(drawn) for drawn in sweep_charts(results)}
    for name in PASSES:
        title = PASS_TITLES[name]
        pictures[f"roofline_{name}"] = draw_roofline(results, name, f"Roofline, {title}")
        pictures[f"distribution_{name}"] = draw_distributions(results, name, f"Spread of the step times, {title}")
    pictures |= draw_objective(results, sweep.facts.get("objective"))
    written = []
    for file_name, picture in pictures.items():
        if picture is not None:
            content = io.BytesIO()
            picture.savefig(content, dpi=110)
            files.write(folder, f"plots/{file_name}.png", content.getvalue())
            written.append(Path(folder, "plots", f"{file_name}.png"))
    return written


def _chart(drawn: DrawnChart) -> Figure | None:
    lines = drawn.lines
    factor, unit = 1.0, drawn.unit
    if unit == "s":
        factor, unit = common_unit([point.middle for line in lines.curves for point in line.points])
    title = drawn.title[0].upper() + drawn.title[1:]
    return draw_curves(
        lines.curves,
        f"{title}, {PASS_TITLES[drawn.pass_name]}" if drawn.pass_name else title,
        drawn.axis.format(unit=unit),
        factor=factor,
        reference=None if lines.reference is None else factor * lines.reference,
        reference_name=drawn.chart.reference_name,
    )
