"""The results as a table, a row for each trial and pass: what the CSV and Parquet files hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, NamedTuple

from tracking import axes
from tracking.analysis import metrics
from tracking.analysis.doubts import verdict
from tracking.analysis.metrics import Metric
from tracking.analysis.samples import samples_of
from tracking.names import host_name, trial_names
from tracking.record import Pass, Result, Trial
from tracking.schema.axis import Axis
from tracking.schema.flat import flatten
from tracking.schema.measurement import Measurement
from tracking.text.printable import printable, printable_lines

Cell = str | int | float | None
Row = dict[str, Cell]

Kind = Literal["text", "integer", "number"]


class Entry(NamedTuple):
    """What a row is made of: a result, its trial's name, and one of its passes, or None for a result without any."""

    result: Result
    name: str
    pass_name: Pass | None

    @property
    def measurement(self) -> Measurement | None:
        return None if self.pass_name is None else self.result.passes[self.pass_name]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that tables of every task have."""

    name: str
    kind: Kind = "text"
    value: Callable[[Entry], Cell]
    per_pass: bool = False
    """It is about timed passes: left out of a table without any."""


_FORMULA = ("=", "+", "-", "@")
"""What a formula in a spreadsheet begins with, blanks aside."""


def standard_columns() -> tuple[Column, ...]:
    """The columns of every table, in order: the trial and its axes, what was measured, and what to think of it."""
    return _standard_columns(axes.AXES, metrics.METRICS)


@cache
def _standard_columns(all_axes: Sequence[Axis], all_metrics: Sequence[Metric]) -> tuple[Column, ...]:
    return (
        Column(name="trial_id", value=lambda entry: entry.result.trial_id),
        Column(name="name", value=lambda entry: entry.name),
        *(
            Column(name=axis.name, kind=axis.column, value=partial(_axis_cell, axis), per_pass=axis.timed)
            for axis in all_axes
            if axis.column
        ),
        Column(name="status", value=lambda entry: entry.result.status),
        Column(name="pass", value=lambda entry: entry.pass_name, per_pass=True),
        Column(name="steps", kind="integer", value=_steps, per_pass=True),
        *(
            Column(name=metric.name, kind="number", value=partial(_metric_cell, metric), per_pass=True)
            for metric in all_metrics
        ),
        Column(name="quality", value=lambda entry: verdict(entry.result) or None),
        Column(name="error", value=_error),
        Column(name="host", value=lambda entry: host_name(entry.result) or None),
    )


def _axis_cell(axis: Axis, entry: Entry) -> Cell:
    return axis.label_of(entry.result.trial)


def _metric_cell(metric: Metric, entry: Entry) -> Cell:
    return None if entry.measurement is None else metric.value(entry.measurement, samples_of(entry.result))


def _steps(entry: Entry) -> Cell:
    return None if entry.measurement is None else len(entry.measurement.step_s)


def _error(entry: Entry) -> Cell:
    error = entry.result.error
    return f"{error.kind}: {error.message}" if error else None


def rows(result: Result, name: str) -> list[Row]:
    """The result's rows, one per pass; a trial without passes has one row, whose pass is None.

    The settings and figures of other tasks than the benchmark are columns of their own, after the others.
    """
    trial = result.trial
    settings: Row = {**flatten(trial.task_args, "task.")} if trial.task != "benchmark" else {}
    task: Row = {"task": trial.task} if trial.task != "benchmark" else {}
    extra = {**task, **metric_columns(result), **settings}
    return [
        _printable({column.name: column.value(Entry(result, name, pass_name)) for column in standard_columns()} | extra)
        for pass_name in (*result.passes,) or (None,)
    ]


def metric_columns(result: Result) -> dict[str, float]:
    """The task's figures, by column.

    A figure with the name of a setting or of a standard column is `metrics/NAME`; without passes, the names of their
    figures are free.
    """
    free = () if result.passes else (metric.name for metric in metrics.METRICS)
    standard = (column.name for column in standard_columns())
    taken = {*standard, "task", *flatten(result.trial.task_args, "task.")}.difference(free)
    figures: dict[str, float] = {}
    for key, value in result.metrics.items():
        column = printable(key)
        while column in taken or column in figures:
            column = f"metrics/{column}"
        figures[column] = value
    return figures


def _printable(row: Row) -> Row:
    """The row with nothing in its texts that cannot be written, or that a terminal would obey."""
    return {printable(column): printable_lines(cell) if isinstance(cell, str) else cell for column, cell in row.items()}


def table(results: Iterable[Result], trials: Iterable[Trial]) -> list[Row]:
    """Every row; the names tell each trial from all others of `trials`."""
    results = list(results)
    names = trial_names([*trials, *(result.trial for result in results)])
    return [row for result in results for row in rows(result, names[result.trial_id])]


def columns(table_rows: Iterable[Mapping[str, Cell]]) -> list[str]:
    """The columns of these rows: the standard ones, and those of their tasks; without passes, no empty ones."""
    table_rows = list(table_rows)
    standard = standard_columns()
    names = {column.name for column in standard}
    extra = list(dict.fromkeys(key for row in table_rows for key in row if key not in names))
    timed = not extra or any(row.get("pass") for row in table_rows)
    shown = [
        column.name
        for column in standard
        if timed or not column.per_pass or any(row.get(column.name) is not None for row in table_rows)
    ]
    return shown + extra


def csv_text(table_rows: Sequence[Mapping[str, Cell]]) -> str:
    """The rows as CSV with a header; floats in their shortest exact form, None as nothing.

    A text that a spreadsheet would calculate, such as `=1+1`, has an apostrophe before it, which says that it is text.
    """
    out = io.StringIO()
    names = columns(table_rows)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_harmless, names))
    writer.writerows([_harmless(row.get(name)) for name in names] for row in table_rows)
    return out.getvalue()


def _harmless(cell: Cell) -> Cell:
    if not isinstance(cell, str) or not cell.lstrip().startswith(_FORMULA) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(text: str) -> bool:
    """Whether CSV would read it as a number: a table that was read from a file holds texts only."""
    try:
        float(text)
    except ValueError:
        return False
    return True
