"""Results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement as Extent
from rich.table import Table
from rich.text import Text

from tracking.analysis import metrics
from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.doubts import verdict
from tracking.analysis.metrics import MOST_METRICS, Metric, task_text
from tracking.analysis.samples import Kind, kind_of, samples_of
from tracking.names import trial_names
from tracking.record import PASSES, Pass, Result, Trial

STYLES = {"ok": "green", "not_run": "yellow", "infeasible": "yellow"}
_TITLES: Mapping[Pass, str] = {name: title.replace(" + ", "+") for name, title in PASS_TITLES.items()}
_LONGEST_REMARK = 120
_NARROWEST_NAME = 16
"""Columns of the terminal to which names of trials may be folded before each pass gets a row of its own."""
_REMARKS = "remarks"
_BETWEEN = 3
"""Columns of the terminal between two columns of the table."""
_NARROWEST_REMARK = 24
"""Columns of the terminal that remarks need to be read beside the figures."""


def results_table(results: Sequence[Result], trials: Iterable[Trial] | None = None) -> RenderableType:
    """A row for each result: time per step and samples per second of each pass, then the kinds of doubt or the failure.

    The names tell each trial from all others of `trials`, or else of the results.
    """
    return _Results(results, trial_names([result.trial for result in results] if trials is None else trials))


class _Results:
    """Results as a table, as wide as the terminal allows.

    Where the figures of all passes do not fit beside each other, each pass has a row. Where too little room is left for
    remarks, they follow below the table.
    """

    def __init__(self, results: Sequence[Result], names: Mapping[str, str]) -> None:
        self._results, self._names = results, names

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        remarks = {result.trial_id: _remark(result) for result in self._results}
        shown = [self._names.get(result.trial_id, result.trial_id) for result in self._results]
        longest = max(map(len, shown), default=0)
        foldable = longest - min(longest, _NARROWEST_NAME)

        def left_by(table: Table) -> int:
            return options.max_width - Extent.get(console, options.update(width=10_000), table).maximum

        figures = (form := _beside)(self._results, self._names)
        if left_by(figures) + foldable < 0:
            figures = (form := _below)(self._results, self._names)
        widest = max(map(len, (_REMARKS, *remarks.values())))
        if left_by(figures) >= min(widest, _NARROWEST_REMARK) + _BETWEEN:
            yield form(self._results, self._names, remarks)
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


def _beside(results: Sequence[Result], names: Mapping[str, str], remarks: Mapping[str, str] | None = None) -> Table:
    """A row for each result, with the figures of its passes beside each other."""
    figures, kind = _figures(results), kind_of(results)
    passes = [name for name in PASSES if any(name in result.passes for result in results)]
    headings = [
        _heading(metric, kind) if position else _TITLES[name]
        for name in passes
        for position, metric in enumerate(figures)
    ]
    table = _table(results, headings, remarks)
    for result in results:
        cells = [cell for name in passes for cell in _cells(result, name, figures)]
        table.add_row(*_first(result, names), *cells, *_last(result, results, remarks))
    return table


def _below(results: Sequence[Result], names: Mapping[str, str], remarks: Mapping[str, str] | None = None) -> Table:
    """A row for each pass, below each other."""
    figures, kind = _figures(results), kind_of(results)
    headings = [_heading(metric, kind) if position else "time per step" for position, metric in enumerate(figures)]
    table = _table(results, headings, remarks, "pass")
    table.padding = (0, 1, 0, 0)
    for result in results:
        first, last = _first(result, names), _last(result, results, remarks)
        for name in (*result.passes,) or (None,):
            title = "" if name is None else _TITLES[name]
            table.add_row(*first, Text(title), *_cells(result, name, figures), *last)
            first, last = [Text()] * len(first), [Text()] * len(last)
    return table


def _table(results: Sequence[Result], headings: Sequence[str], remarks: Mapping[str, str] | None, *words: str) -> Table:
    """The table without rows: trial, status and other `words`; figures, of passes and of tasks; remarks."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", overflow="fold", ratio=2 if remarks else None)
    for word in ("status", *words):
        table.add_column(word, no_wrap=True)
    for heading in (*headings, *_task_keys(results)):
        table.add_column(heading, justify="right", no_wrap=True)
    if remarks and any(remarks.values()):
        table.add_column(_REMARKS, overflow="fold", ratio=1)
    return table


def _figures(results: Sequence[Result]) -> list[Metric]:
    """The metrics that the table shows: those that any of the results has."""
    return [metric for metric in metrics.METRICS if metric.shown and metric.measured(results)]


def _heading(metric: Metric, kind: Kind) -> str:
    return metric.heading or metric.unit_for(kind)


def _task_keys(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(key for result in results for key in result.metrics))[:MOST_METRICS]


def _first(result: Result, names: Mapping[str, str]) -> list[Text]:
    return [Text(names.get(result.trial_id, result.trial_id)), status_text(result.status)]


def _cells(result: Result, pass_name: Pass | None, figures: Sequence[Metric]) -> list[Text]:
    measurement, samples = result.passes.get(pass_name) if pass_name else None, samples_of(result)
    return [Text(metric.text_of(measurement, samples) if measurement else "") for metric in figures]


def _last(result: Result, results: Sequence[Result], remarks: Mapping[str, str] | None) -> list[Text]:
    cells = [Text(task_text(key, result.metrics.get(key))) for key in _task_keys(results)]
    return cells + ([Text(remarks[result.trial_id])] if remarks else [])


def status_text(status: str) -> Text:
    """The status in its colour."""
    return Text(status, style=STYLES.get(status, "red"))


def _remark(result: Result) -> str:
    doubts = ", ".join(dict.fromkeys(doubt.partition(":")[0] for doubt in result.quality))
    text = f"{result.error.kind}: {result.error.message}" if result.error else doubts or verdict(result)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REMARK else line[: _LONGEST_REMARK - 1] + "…"
