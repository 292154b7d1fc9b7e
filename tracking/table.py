"""The results as a table, a row for each trial and pass: what the CSV and Parquet files hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from tracking.names import flatten, host_name, trial_names
from tracking.quality import verdict
from tracking.record import Measurement, Result, Trial

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
    own: Row = dict(result.metrics)
    if trial.task != "benchmark":
        own = {"task": trial.task, **own, **flatten(trial.task_args, "task.")}
    return [{column: row.get(column) for column in COLUMNS} | own for row in passes or [common]]


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
