"""Results as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement as Extent
from rich.table import Table
from rich.text import Text

from tracking.analysis.doubts import verdict
from tracking.analysis.table import MOST_METRICS
from tracking.names import trial_names
from tracking.record import PASSES, Result, Trial
from tracking.schema.measurement import Measurement
from tracking.text.units import seconds_unit

STYLES = {"ok": "green", "not_run": "yellow", "infeasible": "yellow"}
_LONGEST_REMARK = 120
_NARROWEST_REMARK = 24
"""Columns of the terminal that remarks need to be read beside the figures."""


def results_table(results: Sequence[Result], trials: Iterable[Trial] | None = None) -> RenderableType:
    """A row for each result: time a step and images a second for each pass, then the kinds of doubt or the failure.

    Names are told apart among `trials`, or among the results' own.
    """
    return _Results(results, trial_names([result.trial for result in results] if trials is None else trials))


class _Results:
    """Results as a table; where that leaves remarks too little room, they stand below it."""

    def __init__(self, results: Sequence[Result], names: Mapping[str, str]) -> None:
        self._results, self._names = results, names

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        remarks = {result.trial_id: _remark(result) for result in self._results}
        figures = _figures(self._results, self._names)
        left = options.max_width - Extent.get(console, options.update(width=10_000), figures).maximum
        longest = max(map(len, remarks.values()), default=0)
        if left >= min(longest, _NARROWEST_REMARK) + 2:
            yield _figures(self._results, self._names, remarks)
            return
        yield figures
        good = 0
        for trial_id, remark in remarks.items():
            if remark == "good":
                good += 1
            elif remark:
                yield Text(f" {self._names.get(trial_id, trial_id)}: {remark}")
        if good:
            yield Text(f" {good} of {len(remarks)}: good")


def _figures(results: Sequence[Result], names: Mapping[str, str], remarks: Mapping[str, str] | None = None) -> Table:
    passes = [name for name in PASSES if any(name in result.passes for result in results)]
    found = list(dict.fromkeys(key for result in results for key in result.metrics))[:MOST_METRICS]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", overflow="fold", ratio=2 if remarks else None)
    table.add_column("status", no_wrap=True)
    for name in passes:
        table.add_column(name.replace("_", "+"), justify="right", no_wrap=True)
        table.add_column("images/s", justify="right", no_wrap=True)
    for key in found:
        table.add_column(key, justify="right", no_wrap=True)
    if remarks and any(remarks.values()):
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
        table.add_row(*cells, *([Text(remarks[result.trial_id])] if remarks else []))
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
