"""The results as a table, a row for each trial and pass: what the CSV and Parquet files hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from tracking.names import trial_names
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


def rows(result: Result, name: str) -> list[Row]:
    """The result's rows, one a pass; a trial without figures has one row, whose pass is None."""
    trial = result.trial
    common: Row = {
        "trial_id": result.trial_id,
        "name": name,
        "model": trial.model,
        "batch": trial.batch,
        "device": trial.device.label,
        "precision": trial.precision,
        "compile": trial.compile,
        "protocol": trial.protocol.name,
        "repeat": trial.repeat,
        "status": result.status,
        "quality": verdict(result) or None,
        "error": f"{result.error.kind}: {result.error.message}" if result.error else None,
        "host": host_name(result),
    }
    passes = [common | _figures(pass_name, m, trial.batch) for pass_name, m in result.passes.items()]
    return [{column: row.get(column) for column in COLUMNS} for row in passes or [common]]


def table(results: Iterable[Result], trials: Iterable[Trial]) -> list[Row]:
    """Every row, the trials being named among `trials`."""
    results = list(results)
    names = trial_names([*trials, *(result.trial for result in results)])
    return [row for result in results for row in rows(result, names[result.trial_id])]


def csv_text(table_rows: Iterable[Mapping[str, Cell]]) -> str:
    """The rows as CSV with a header; floats in their shortest exact form, None as nothing."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows)
    return out.getvalue()


def host_name(result: Result) -> str | None:
    """The name of the machine that measured it."""
    name = result.host.get("hostname")
    return None if name is None else str(name)


def _figures(pass_name: str, measurement: Measurement, batch: int) -> Row:
    return {
        "pass": pass_name,
        "steps": len(measurement.step_s),
        **measurement.figures(batch),
        "peak_rss_mb": measurement.peak_rss_mb,
        "peak_device_mb": measurement.peak_device_mb,
        "gflops_per_s": measurement.gflops_per_s,
    }
