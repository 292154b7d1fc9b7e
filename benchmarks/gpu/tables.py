"""Measure the tables of docs/gpu.md in one command that ends within the given minutes.

usage: python benchmarks/gpu/tables.py [--minutes 9.5] [--out build/gpu] [--device gpu|cpu]

The trials run one after another, each in a fresh process as in a sweep. They measure this device's matrix product and
copy at each precision; images/s, forward and training step, in the order of benchmarks/gpu/plan.py; the same step in
PyTorch (benchmarks/peers/torch_step.py), if it is installed; and the largest batch that fits into memory. The folder
gets results.jsonl (raw samples), results.csv, gpu.json, tables.md, plots/*.png and report.html. Another run with the
same folder continues with what was left out. `--device cpu` is a rehearsal with small nets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.plan import Grid, doublings, points
from benchmarks.gpu.report import write
from sweeps.machine import cores, host, node
from sweeps.worker.forkserver import ForkServer
from sweeps.worker.isolate import run_trial
from tracking.analysis.doubts import judged
from tracking.folder.journal import Journal
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Precision, Result, Sweep, Trial
from tracking.schema.device import Device

GPU = Grid(device=Device(name="gpu", kind="gpu", cpus=2, gpus=1))
REHEARSAL = Grid(
    device=Device(cpus=2),
    nets=("alexnet_conv", "vgg16"),
    compared=("vgg16",),
    batches=(1, 2),
    precisions=("bfloat16", "float32"),
    model_args=(("image_size", 96),),
    full_batch=2,
    slow_batch=2,
    search=False,
)
TRIAL_S = 120.0
"""Time limit of one trial, compilation included."""
LEAST_S = 1.0
"""Seconds that a calibration gets even when no time is left."""
WRITE_S = 20.0
"""Seconds reserved for tables and plots at the end."""


@dataclass(kw_only=True)
class Run:
    """One run of this script: what it measures with, and until when."""

    grid: Grid
    folder: Path
    server: str
    end: float
    journal: Journal
    results: dict[str, Result]
    limits: dict[Precision, Mapping[str, float]]

    def left_s(self) -> float:
        return self.end - time.monotonic()

    def measure(self, trial: Trial) -> Result | None:
        """Return the trial's result, from the journal if it is there; None if no time is left."""
        if trial.trial_id in self.results:
            return self.results[trial.trial_id]
        if self.left_s() < 5:
            return None
        result = self._run(replace(trial, timeout_s=min(TRIAL_S, self.left_s())))
        if result.status == "timeout" and self.left_s() < 5:
            return None  # it ran out of our time, not of its own
        result = judged(replace(result, limits=self.limits.get(trial.precision, {})))
        self.results[trial.trial_id] = result
        self.journal.append(result)
        rates = [f"{name} {trial.batch / m.median_s:,.1f} images/s" for name, m in result.passes.items()]
        words = ", ".join(rates) or (result.error.message[:100] if result.error else "")
        print(f"{self.left_s():5.0f} s left  {name_of(trial)}: {result.status} {words}", flush=True)
        return result

    def calibrate(self) -> None:
        for precision in self.grid.precisions:
            trial = Trial(
                model="calibration", batch=1, device=self.grid.device, precision=precision, passes=(), task="calibrate"
            )
            trial = replace(trial, timeout_s=max(LEAST_S, min(TRIAL_S, self.left_s())))
            result = self._run(trial)
            self.limits[precision] = result.limits
            print(f"{precision}: {dict(result.limits) or result.error}", flush=True)

    def _run(self, trial: Trial) -> Result:
        folder = TrialFolder.within(self.folder, trial.trial_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        gpus = host.gpu_ids(trial.device.gpus)
        with cores.claim(trial.device.cpus or 1) as held:
            env = node.environment(trial.device, gpus)
            return run_trial(trial, sweep_id="gpu", server=self.server, cores=held, env=env, folder=folder)


def name_of(trial: Trial) -> str:
    return f"{trial.model} b={trial.batch} {trial.precision} {trial.compile}"


def torch(python: str, grid: Grid, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Return PyTorch's figures for the compared nets, or one entry with the reason. Earlier figures are kept."""
    path = folder / "torch.jsonl"
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    gpu = grid.device.kind == "gpu"
    command = [python, str(ROOT / "benchmarks" / "peers" / "torch_step.py")]
    command += ["--device", "cuda" if gpu else "cpu", "--seconds", f"{seconds:.0f}"]
    command += ["--batches", str(grid.full_batch), "--models", *grid.compared, "--precisions", *grid.precisions]
    command += ["--known", str(path)] if known else []
    if not gpu:
        command += ["--image-size", "96", "--modes", "channels_last"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * seconds, check=False)
    except subprocess.TimeoutExpired as expired:
        lines, why = (expired.stdout or b"").decode().splitlines(), "it took too long"
    else:
        lines, why = done.stdout.splitlines(), done.stderr.strip().rpartition("\n")[2]
    rows = [json.loads(line) for line in lines]
    done_now = [row for row in rows if not str(row.get("error")).startswith("left out")]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*known, *done_now]))
    return [*known, *rows] or [{"error": f"PyTorch was not measured: {why}"}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--torch-python", default=sys.executable, help="the interpreter that has PyTorch")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes - WRITE_S
    grid = GPU if options.device == "gpu" else REHEARSAL
    folder = options.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    wanted = points(grid)
    with ForkServer() as server, Journal(folder) as journal:
        sweep = Sweep(
            sweep_id="gpu",
            folder=str(folder),
            command=f"python benchmarks/gpu/tables.py --device {options.device} --minutes {options.minutes:g}",
            created_at=time.time(),
            trials=tuple(wanted),
            facts=host.facts(),
        )
        journal.write_plan(sweep)
        known = {result.trial_id: result for result in journal.read()}
        server.wait_ready()
        run = Run(grid=grid, folder=folder, server=server.address, end=end, journal=journal, results=known, limits={})
        run.calibrate()
        first = len(grid.nets)
        for trial in wanted[:first]:
            run.measure(trial)
        peers = torch(options.torch_python, grid, min(150.0, run.left_s() / 3), folder)
        largest = measure_rest(run, wanted[first:])
    write(sweep, [run.results[t.trial_id] for t in wanted if t.trial_id in run.results], peers, largest, run.limits)
    left_out = [trial for trial in wanted if trial.trial_id not in run.results]
    print(f"\n{len(wanted) - len(left_out)} of {len(wanted)} points measured, {len(left_out)} left out; see {folder}")


def measure_rest(run: Run, trials: Sequence[Trial]) -> dict[str, Any]:
    """Measure the other points, and return the largest batches by net: the compared nets first, the others last."""
    grid = run.grid
    curves = len(grid.compared) * (len(grid.batches) + len(grid.compiles) - 2)
    for trial in trials[:curves]:
        run.measure(trial)
    largest = {net: largest_batch(run.measure, grid, net) for net in grid.compared} if grid.search else {}
    for trial in trials[curves:]:
        run.measure(trial)
    others = [net for net in grid.nets if net not in grid.compared]
    return largest | {net: largest_batch(run.measure, grid, net) for net in others if grid.search}


def largest_batch(measure: Callable[[Trial], Result | None], grid: Grid, net: str) -> dict[str, int | None]:
    """Return the largest batch whose training step ran (`fits`), and its double if that ran out of memory (`oom`)."""
    fits, first_oom = None, None
    for trial in doublings(grid, net):
        result = measure(trial)
        if result is None or result.status not in ("ok", "oom"):
            break
        if result.status == "oom":
            first_oom = trial.batch
            break
        fits = trial.batch
    return {"fits": fits, "oom": first_oom}


if __name__ == "__main__":
    main()
