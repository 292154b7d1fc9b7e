"""The results as a table, a row for each trial and pass: what the CSV and Parquet files hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from tracking.analysis.doubts import verdict
from tracking.names import host_name, trial_names
from tracking.record import Result, Trial
from tracking.schema.measurement import Measurement
from tracking.text.flat import flatten
from tracking.text.printable import printable, printable_lines

Cell = str | int | float | None
Row = dict[str, Cell]

COLUMNS = [
    "trial_id",
    "name",
    "model",
    "batch",
    "device",
    "precision",
    "compile",
    "layout",
    "protocol",
    "repeat",
    "status",
    "pass",
    "steps",
    "mean_s",
    "sd_s",
    "median_s",
    "p90_s",
    "p99_s",
    "images_per_s",
    "first_call_s",
    "peak_rss_mb",
    "peak_device_mb",
    "gflops_per_s",
    "quality",
    "error",
    "host",
]


_FORMULA = ("=", "+", "-", "@")
"""With what a formula begins in spreadsheets, blanks aside."""
MOST_METRICS = 5
"""Figures of a task that a table for people shows; the files and MLflow have all of them."""
_FIGURES = COLUMNS[COLUMNS.index("mean_s") : COLUMNS.index("gflops_per_s") + 1]
_OF_PASSES = ["protocol", *COLUMNS[COLUMNS.index("pass") : COLUMNS.index("gflops_per_s") + 1]]


def rows(result: Result, name: str) -> list[Row]:
    """The result's rows, one a pass; a trial without passes has one row, whose pass is None.

    What another task than the benchmark was asked and what it found are columns of their own, after the others.
    """
    trial = result.trial
    common: Row = {
        "trial_id": result.trial_id,
        "name": name,
        "model": trial.model,
        "batch": trial.batch,
        "device": trial.device.label,
        "precision": trial.precision,
        "compile": trial.compile,
        "layout": trial.layout,
        "protocol": trial.protocol.name if trial.passes else None,
        "repeat": trial.repeat,
        "status": result.status,
        "quality": verdict(result) or None,
        "error": f"{result.error.kind}: {result.error.message}" if result.error else None,
        "host": host_name(result) or None,
    }
    passes = [common | _figures(pass_name, m, trial.batch) for pass_name, m in result.passes.items()]
    asked: Row = {"task": trial.task, **flatten(trial.task_args, "task.")} if trial.task != "benchmark" else {}
    first = {key: asked.pop(key) for key in ("task",) if key in asked}
    own = {**first, **metric_columns(result), **asked}
    return [_printable({column: row.get(column) for column in COLUMNS} | own) for row in passes or [common]]


def metric_columns(result: Result) -> dict[str, float]:
    """What the task found, by column.

    A figure with the name of a setting or of a column of ours is `metrics/NAME`; those of passes are free without any.
    """
    free = () if result.passes else _FIGURES
    taken = {*COLUMNS, "task", *flatten(result.trial.task_args, "task.")}.difference(free)
    found: dict[str, float] = {}
    for key, value in result.metrics.items():
        column = printable(key)
        while column in taken or column in found:
            column = f"metrics/{column}"
        found[column] = value
    return found


def _printable(row: Row) -> Row:
    """The row with nothing in its texts that cannot be written, or that a terminal would obey."""
    return {printable(column): printable_lines(cell) if isinstance(cell, str) else cell for column, cell in row.items()}


def table(results: Iterable[Result], trials: Iterable[Trial]) -> list[Row]:
    """Every row, the trials being named among `trials`."""
    results = list(results)
    names = trial_names([*trials, *(result.trial for result in results)])
    return [row for result in results for row in rows(result, names[result.trial_id])]


def columns(table_rows: Iterable[Mapping[str, Cell]]) -> list[str]:
    """The columns of these rows: those of every table, and what their tasks found; without passes, no empty ones."""
    table_rows = list(table_rows)
    own = dict.fromkeys(column for row in table_rows for column in row if column not in COLUMNS)
    timed = not own or any(row.get("pass") for row in table_rows)
    filled = {column for row in table_rows for column in _OF_PASSES if row.get(column) is not None}
    return [column for column in COLUMNS if timed or column not in _OF_PASSES or column in filled] + list(own)


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
    """Whether it is one as CSV has it: a table that is read and gone on with holds texts only."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _figures(pass_name: str, measurement: Measurement, batch: int) -> Row:
    return {
        "pass": pass_name,
        "steps": len(measurement.step_s),
        **measurement.figures(batch),
        "peak_rss_mb": measurement.peak_rss_mb,
        "peak_device_mb": measurement.peak_device_mb,
        "gflops_per_s": measurement.gflops_per_s,
    }
