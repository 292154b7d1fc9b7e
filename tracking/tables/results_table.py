"""Results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement as Extent
from rich.table import Table
from rich.text import Text

from tracking.analysis import metrics
from tracking.analysis.doubts import verdict
from tracking.analysis.metrics import MOST_METRICS, task_text
from tracking.names import trial_names
from tracking.record import PASSES, Result, Trial

STYLES = {"ok": "green", "not_run": "yellow", "infeasible": "yellow"}
_LONGEST_REMARK = 120
_NARROWEST_REMARK = 24
"""Columns of the terminal that remarks need to be read beside the figures."""


def results_table(results: Sequence[Result], trials: Iterable[Trial] | None = None) -> RenderableType:
    """A row for each result: time per step and images per second of each pass, then the kinds of doubt or the failure.

    The names tell each trial from all others of `trials`, or else of the results.
    """
    return _Results(results, trial_names([result.trial for result in results] if trials is None else trials))


class _Results:
    """Results as a table; where it leaves too little room for remarks, they follow below it."""

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
    figures = [metric for metric in metrics.METRICS if metric.shown]
    task_keys = list(dict.fromkeys(key for result in results for key in result.metrics))[:MOST_METRICS]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", overflow="fold", ratio=2 if remarks else None)
    table.add_column("status", no_wrap=True)
    for name in passes:
        for position, metric in enumerate(figures):
            heading = (metric.heading or metric.unit) if position else name.replace("_", "+")
            table.add_column(heading, justify="right", no_wrap=True)
    for key in task_keys:
        table.add_column(key, justify="right", no_wrap=True)
    if remarks and any(remarks.values()):
        table.add_column("remarks", overflow="fold", ratio=1)
    for result in results:
        cells = [Text(names.get(result.trial_id, result.trial_id)), status_text(result.status)]
        for name in passes:
            measurement = result.passes.get(name)
            batch = result.trial.batch
            cells += [Text(metric.text_of(measurement, batch) if measurement else "") for metric in figures]
        cells += [Text(task_text(key, result.metrics.get(key))) for key in task_keys]
        table.add_row(*cells, *([Text(remarks[result.trial_id])] if remarks else []))
    return table


def status_text(status: str) -> Text:
    """The status in its colour."""
    return Text(status, style=STYLES.get(status, "red"))


def _remark(result: Result) -> str:
    doubts = ", ".join(dict.fromkeys(doubt.partition(":")[0] for doubt in result.quality))
    text = f"{result.error.kind}: {result.error.message}" if result.error else doubts or verdict(result)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REMARK else line[: _LONGEST_REMARK - 1] + "…"
