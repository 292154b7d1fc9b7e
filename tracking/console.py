"""Results as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from tracking.names import trial_names
from tracking.quality import verdict
from tracking.record import PASSES, Measurement, Result, Trial
from tracking.table import MOST_METRICS
from tracking.units import seconds_unit

STYLES = {"ok": "green", "not_run": "yellow", "infeasible": "yellow"}
_LONGEST_REMARK = 120


def results_table(results: Sequence[Result], trials: Iterable[Trial] | None = None) -> Table:
    """A row for each result: time a step and images a second for each pass, then the kinds of doubt or the failure.

    Names are told apart among `trials`, or among the results' own.
    """
    names = trial_names([result.trial for result in results] if trials is None else trials)
    passes = [name for name in PASSES if any(name in result.passes for result in results)]
    found = list(dict.fromkeys(key for result in results for key in result.metrics))[:MOST_METRICS]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", overflow="fold", ratio=2)
    table.add_column("status")
    for name in passes:
        table.add_column(name.replace("_", "+"), justify="right", no_wrap=True)
        table.add_column("images/s", justify="right", no_wrap=True)
    for key in found:
        table.add_column(key, justify="right", no_wrap=True)
    if any(_remark(result) for result in results):
        table.add_column("remarks", overflow="fold", ratio=1)
    for result in results:
        cells = [Text(names.get(result.trial_id, result.trial_id)), status_text(result.status)]
        for name in passes:
            measurement = result.passes.get(name)
            cells += (
                [Text(spread(measurement)), Text(_rate(result.trial.batch / measurement.mean_s))]
                if measurement
                else [Text(""), Text("")]
            )
        cells += [Text(metric_text(key, result.metrics.get(key))) for key in found]
        table.add_row(*cells, Text(_remark(result)))
    return table


def spread(measurement: Measurement) -> str:
    """Mean and standard deviation of a step in the unit that suits the mean, e.g. `468 ± 18 ms`."""
    mean, sd = measurement.mean_s, measurement.sd_s
    factor, unit = seconds_unit(mean)
    # The deviation's second digit is the last that means anything.
    digits = 1 - math.floor(math.log10(sd * factor)) if sd else 2
    digits = min(max(digits, 0), 3)
    return f"{mean * factor:.{digits}f} ± {sd * factor:.{digits}f} {unit}"


def metric_text(key: str, value: float | None) -> str:
    """A task's figure as people read it: shares in percent, four digits."""
    if value is None:
        return ""
    return f"{value:.1%}" if key.endswith(("accuracy", "share")) else f"{value:.4g}"


def _rate(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}" if images_per_s >= 1000 else f"{images_per_s:.4g}"


def status_text(status: str) -> Text:
    """The status in its colour."""
    return Text(status, style=STYLES.get(status, "red"))


def _remark(result: Result) -> str:
    doubts = ", ".join(dict.fromkeys(doubt.partition(":")[0] for doubt in result.quality))
    text = f"{result.error.kind}: {result.error.message}" if result.error else doubts or verdict(result)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REMARK else line[: _LONGEST_REMARK - 1] + "…"
