"""Many trials that only start, report and end: total time, memory over time, and whether anything is lost.

Each is a complete trial of `task=probe`: a fresh process on its own core through Ray, with journal, CSV and MLflow on
SQLite. The resident memory of the driver, the fork server and the largest Ray worker is read twice a second from
outside, and written with the number of results to OUT/memory.csv and OUT/memory.png.

usage: python benchmarks/faults/endurance.py OUT [--trials 10000] [SWEEP OVERRIDES ...]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import psutil

ROOT = Path(__file__).resolve().parents[2]
EVERY_S = 0.5
COLUMNS = ("seconds", "results", "driver_mb", "fork_server_mb", "largest_worker_mb")


def memory_mb(driver: psutil.Process) -> tuple[float, float, float]:
    """Return the resident memory of the driver, the fork server and the largest Ray worker, in MiB."""
    server, worker = 0.0, 0.0
    for process in driver.children(recursive=True):
        try:
            words, resident = " ".join(process.cmdline()), process.memory_info().rss / 2**20
            if process.parent() == driver and "sweeps.worker.forkserver" in words:
                server = resident
            elif words.startswith("ray::"):
                worker = max(worker, resident)
        except psutil.Error:  # it has ended
            continue
    return driver.memory_info().rss / 2**20, server, worker


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def run(folder: Path, trials: int, overrides: list[str]) -> list[tuple[float, ...]]:
    """Run the sweep in `folder`, and return a row of `COLUMNS` for every half second."""
    grid = [
        f"batch=range(1,{trials + 1})",
        "task=probe",
        "model=tiny",
        "device.cpus=1",
        f"hydra.sweep.dir={folder}/sweep",
    ]
    command = [sys.executable, str(ROOT / "sweeps" / "run.py"), "-m", *grid, *overrides]
    rows: list[tuple[float, ...]] = []
    start = time.perf_counter()
    with (folder / "output.txt").open("wb") as output:
        driver = psutil.Popen(command, cwd=folder, stdout=output, stderr=output)
        while driver.poll() is None:
            seconds = time.perf_counter() - start
            rows.append((seconds, lines_in(folder / "sweep" / "results.jsonl"), *memory_mb(driver)))
            time.sleep(EVERY_S)
    if driver.returncode:
        raise RuntimeError(f"expected a sweep that succeeds. Received: exit {driver.returncode}; {folder}/output.txt")
    rows.append((time.perf_counter() - start, lines_in(folder / "sweep" / "results.jsonl"), 0, 0, 0))
    return rows


def children_in_mlflow(folder: Path) -> int:
    """Return the number of finished child runs in the folder's MLflow database."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("sweeps")
    count, token = 0, None
    while True:
        page = client.search_runs(
            [experiment.experiment_id], "attributes.status = 'FINISHED'", max_results=1000, page_token=token
        )
        count += sum("mlflow.parentRunId" in run.data.tags for run in page)
        if (token := page.token) is None:
            return count


def draw(rows: list[tuple[float, ...]], path: Path) -> None:
    mpl.use("Agg")
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for index, (label, colour) in enumerate(
        (("driver", "#0072B2"), ("fork server", "#D55E00"), ("largest Ray worker", "#009E73"))
    ):
        axis.plot([row[0] / 60 for row in rows[:-1]], [row[2 + index] for row in rows[:-1]], color=colour, label=label)
    axis.set(xlabel="minutes", ylabel="resident memory, MB", ylim=(0, None), title=f"{rows[-1][1]:,.0f} trials")
    axis.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=10_000)
    options, overrides = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=False)
    rows = run(options.out.absolute(), options.trials, overrides)
    with (options.out / "memory.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    draw(rows, options.out / "memory.png")
    total_s, results = rows[-1][:2]
    print(f"{options.trials} trials in {total_s:.0f} s, {total_s / options.trials:.3f} s each in total")
    print(f"in the journal: {results:.0f}; finished children in MLflow: {children_in_mlflow(options.out.absolute())}")
    running = [row for row in rows[:-1] if row[1] > 0]
    for share in (0.1, 0.5, 0.9):
        row = min(running, key=lambda row: abs(row[1] - share * options.trials))
        print(f"at {row[1]:6.0f} results: driver {row[2]:.0f} MB, fork server {row[3]:.0f} MB, worker {row[4]:.0f} MB")


if __name__ == "__main__":
    main()
