"""The results of `tables.py` as gpu.json, results.csv, tables.md, plots and report.html."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.analysis import table
from tracking.plots import sweep_plots
from tracking.plots.roofline import intensity
from tracking.record import Pass, Precision, Result, Sweep, Trial
from tracking.report import html_page

TITLES: dict[Pass, str] = {"forward": "Forward", "forward_backward": "Training step"}
Row = dict[str, Any]


def write(
    sweep: Sweep,
    results: Sequence[Result],
    peers: Sequence[Row],
    largest: Mapping[str, Mapping[str, int | None]],
    limits: Mapping[Precision, Mapping[str, float]],
) -> None:
    """Write all files into the sweep's folder."""
    folder = Path(sweep.folder)
    rows = [row for result in results for row in rows_of(result)]
    measured = {result.trial_id for result in results}
    left_out = [_point(trial) for trial in sweep.trials if trial.trial_id not in measured]
    machine = dict(results[0].host) if results else dict(sweep.facts)
    machine.pop("in_force", None)
    everything = {
        "machine": machine,
        "limits": limits,
        "points": rows,
        "torch": list(peers),
        "largest_batch": largest,
        "left_out": left_out,
    }
    (folder / "gpu.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    (folder / "results.csv").write_text(table.csv_text(table.table(results, sweep.trials)), encoding="utf-8")
    (folder / "tables.md").write_text(markdown(rows, peers, largest, limits, len(left_out)), encoding="utf-8")
    sweep_plots.draw(sweep, results, folder)
    html_page.write(sweep, results, folder / "report.html")


def rows_of(result: Result) -> list[Row]:
    """Return a row per pass with its rate and its shares of the measured limits; without figures if it failed.

    The share of the copy rate counts the bytes that a pass cannot avoid unless layers are fused
    (`tracking.plots.roofline`).
    """
    trial = result.trial
    point = _point(trial)
    failure = {"status": result.status, "error": result.error and result.error.message}
    failed = [point | failure | {"pass": name} for name in trial.passes if name not in result.passes]
    peak = result.limits.get("peak_gflops_per_s")
    copied = result.limits.get("copy_gb_per_s")
    dense = {name: intensity(result, name) for name in result.passes}
    measured_rows = [
        point
        | {
            "status": "ok",
            "pass": name,
            "images_per_s": trial.batch / measured.median_s,
            "median_s": measured.median_s,
            "share_of_peak": _share(measured.gflops_per_s, 1.0, peak),
            "share_of_copy": _share(measured.gflops_per_s, dense[name], copied),
            "peak_device_mb": measured.peak_device_mb,
            "first_call_s": measured.first_call_s,
            "joules_per_image": measured.evidence.get("gpu_energy_j_per_image"),
            "quality": [reason for reason in result.quality if reason.endswith(f"({name})")],
        }
        for name, measured in result.passes.items()
    ]
    return [*measured_rows, *failed]


def markdown(
    rows: Sequence[Row],
    peers: Sequence[Row],
    largest: Mapping[str, Mapping[str, int | None]],
    limits: Mapping[Precision, Mapping[str, float]],
    left_out: int,
) -> str:
    """Return the tables for docs/gpu.md."""
    peaks = [
        [precision, _number(limit.get("peak_gflops_per_s", 0.0) / 1e3), _number(limit.get("copy_gb_per_s"))]
        for precision, limit in limits.items()
    ]
    parts = [_table(["precision", "matrix product, TFLOP/s", "copy, GB/s"], peaks)]
    modes = list(dict.fromkeys((row["precision"], row["compile"]) for row in rows))
    for name, title in TITLES.items():
        measured = {
            (r["model"], r["batch"], r["precision"], r["compile"]): r
            for r in rows
            if r["pass"] == name and "images_per_s" in r
        }
        lines = [
            [model, str(batch), *(_rate(measured.get((model, batch, *mode))) for mode in modes)]
            for model, batch in sorted({key[:2] for key in measured})
        ]
        parts.append(f"{title}: images/s (share of the measured matrix product, of the copy)\n")
        parts.append(_table(["net", "batch", *(" ".join(mode) for mode in modes)], lines))
    if failed := [row for row in rows if "images_per_s" not in row]:
        keys = ("model", "batch", "precision", "compile", "pass", "status", "error")
        parts.append(_table(list(keys), ([str(row[key]) for key in keys] for row in failed)))
    if largest:
        parts.append("Largest batch whose training step ran, and the one that ran out of memory\n")
        parts.append(_table(["net", "ran", "oom"], ([n, str(f["fits"]), str(f["oom"])] for n, f in largest.items())))
    parts.append("PyTorch, the same step on the same device\n")
    keys = ("model", "batch", "precision", "mode", "pass", "images_per_s", "error")
    parts.append(_table(list(keys), ([_number(row.get(key)) for key in keys] for row in peers)))
    parts.append(f"{left_out} points of the whole grid were left out; gpu.json lists them.\n")
    return "\n".join(parts)


def _share(gflops_per_s: float | None, per: float | None, limit: float | None) -> float | None:
    """Return the rate as a share of the limit, in units of `per` operations; None if one of them is unknown."""
    return gflops_per_s / per / limit if gflops_per_s and per and limit else None


def _point(trial: Trial) -> Row:
    return {"model": trial.model, "batch": trial.batch, "precision": trial.precision, "compile": trial.compile}


def _rate(row: Row | None) -> str:
    if row is None:
        return ""
    shares = [row[key] for key in ("share_of_peak", "share_of_copy")]
    share = "" if None in shares else f" ({shares[0]:.0%}, {shares[1]:.0%})"
    return f"{_number(row['images_per_s'])}{share}{' *' if row['quality'] else ''}"


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
