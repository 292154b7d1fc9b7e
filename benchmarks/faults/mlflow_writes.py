"""The cost of recording a sweep of many trials: MLflow's writes, the plots, the report.

Measures one trial of `tiny` and records it many times, each with its own batch size, log, layers, raw steps and step
plots: first to SQLite, then over HTTP to a real `mlflow server` on SQLite.

usage: python benchmarks/faults/mlflow_writes.py [--trials 1000] [--only sqlite http]
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.faults.outage import server
from benchmarks.side_by_side import sweep
from tracking.folder.journal import Journal
from tracking.folder.trial_folder import TrialFolder
from tracking.plots import sweep_plots
from tracking.record import Result, Sweep
from tracking.report import html_page
from tracking.sinks.mlflow.client import preload
from tracking.sinks.mlflow.sink import MlflowSink


def many(folder: Path, trials: int) -> tuple[Sweep, list[Result]]:
    """Measure one trial, and return it as `trials` results with the sweep that would have planned them."""
    sweep(folder, "model=tiny", "batch=1", "cluster=inline", "tracking=none")
    home = folder / "sweep"
    with Journal(home) as journal:
        planned, (measured,) = journal.read_plan(), journal.read()
    log = TrialFolder.within(home, measured.trial_id).log
    results = [replace(measured, trial=replace(measured.trial, batch=batch)) for batch in range(1, trials + 1)]
    for result in results[1:]:
        copy = TrialFolder.within(home, result.trial_id)
        copy.path.mkdir()
        shutil.copyfile(log, copy.log)
    return replace(planned, trials=tuple(result.trial for result in results)), results


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Yield a list that collects the requests that this process sends."""
    import requests

    seen: list[str] = []
    send = requests.Session.send

    def noted(self: requests.Session, request: Any, **kwargs: Any) -> Any:
        seen.append(f"{request.method} {request.url}")
        return send(self, request, **kwargs)

    requests.Session.send = noted  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        requests.Session.send = send  # type: ignore[method-assign]


def write(uri: str, planned: Sweep, results: list[Result]) -> None:
    sink = MlflowSink(uri)
    sink.open(planned)
    each: list[float] = []
    most = 0
    with counted() as seen:
        for result in results:
            before, start = len(seen), time.perf_counter()
            sink.write(result)
            each.append(1e3 * (time.perf_counter() - start))
            most = max(most, len(seen) - before)
    fifth = max(1, len(each) // 5)
    parts = " ".join(f"{statistics.fmean(each[i : i + fifth]):.1f}" for i in range(0, len(each), fifth))
    print(f"  ms per trial: mean {statistics.fmean(each):.1f}, median {statistics.median(each):.1f}; by fifths {parts}")
    print(f"  requests per trial, at most: {most}")
    start = time.perf_counter()
    sink.close(planned, results)
    print(f"  the parent's curves and files: {time.perf_counter() - start:.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--only", nargs="+", default=["sqlite", "http"], choices=["sqlite", "http"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planned, results = many(folder, options.trials)
        steps = ", ".join(f"{len(measured.step_s)} steps {name}" for name, measured in results[0].passes.items())
        print(f"{options.trials} trials of {steps}")
        home = Path(planned.folder)
        start = time.perf_counter()
        sweep_plots.draw(planned, results, home)
        drawn = time.perf_counter()
        html_page.write(planned, results, home / "report.html")
        size = (home / "report.html").stat().st_size / 1e6
        print(f"plots {drawn - start:.1f} s, report {time.perf_counter() - drawn:.1f} s and {size:.1f} MB", flush=True)
        preload()
        if "sqlite" in options.only:
            print("SQLite")
            write(f"sqlite:///{folder}/mlflow.db", planned, results)
        if "http" in options.only:
            (folder / "server").mkdir()
            with server(folder / "server") as address:
                print("HTTP")
                write(address, planned, results)


if __name__ == "__main__":
    main()
