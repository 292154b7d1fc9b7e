"""What this system adds to a trial and to a step, compared with its peers, in one run on one machine.

1. Wall time per trial: `tiny` trials here (TensorFlow, both passes, a fresh process each, journal, CSV, MLflow on
   SQLite) and as many no-op trials in Ray Tune with its MLflow callback (also SQLite; no TensorFlow import).
2. Step time in a full sweep, relative to the same compiled function in a bare process, interleaved.

usage: python benchmarks/side_by_side.py [--trials 40] [--rounds 3] [--model vgg16] [--batch 4] [--steps 8]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"


def sweep(folder: Path, *arguments: str) -> tuple[float, list[dict[str, Any]]]:
    """Run a sweep in `folder`, and return its wall seconds and the results in its journal."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "sweeps" / "run.py"), "-m", *arguments, f"hydra.sweep.dir={folder}/sweep"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return seconds, [json.loads(line) for line in (folder / "sweep" / "results.jsonl").read_text().splitlines()]


def peer(folder: Path, script: str, *arguments: str, python: str | None = None) -> Any:
    """Run a script of `peers/` in `folder`, and return the JSON on the last line of its output."""
    command = [python or sys.executable, str(PEERS / script), *arguments]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def overhead(trials: int) -> None:
    batches = ",".join(str(batch) for batch in range(1, trials + 1))
    protocol = ["protocol=classic", "protocol.burn_in=1", "protocol.steps=3"]
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        our_total, results = sweep(Path(ours), "model=tiny", f"batch={batches}", *protocol)
        tune = peer(Path(theirs), "ray_tune.py", str(trials), theirs)
    if len(results) != trials or any(result["status"] != "ok" for result in results):
        raise RuntimeError(f"expected {trials} ok trials")
    first = min(result["started_at"] for result in results)
    our_trials = max(result["started_at"] + result["wall_s"] for result in results) - first
    print(f"\n{trials} trials, seconds per trial")
    print(f"{'':34}{'total':>10}{'without start-up':>18}")
    print(f"{'this system, tiny':34}{our_total / trials:10.3f}{our_trials / trials:18.3f}")
    print(f"{'Ray Tune + MLflow callback, no-op':34}{tune['total_s'] / trials:10.3f}{tune['trials_s'] / trials:18.3f}")
    print(f"{'ratio, theirs to ours':34}{tune['total_s'] / our_total:10.1f}{tune['trials_s'] / our_trials:18.1f}")


def step_time(model: str, batch: int, steps: int, rounds: int) -> None:
    ours: dict[str, list[float]] = defaultdict(list)
    bare: dict[str, list[float]] = defaultdict(list)
    protocol = ["protocol=classic", "protocol.burn_in=2", f"protocol.steps={steps}"]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            _, (result,) = sweep(Path(folder), f"model={model}", f"batch={batch}", *protocol)
            loop = peer(Path(folder), "bare_loop.py", model, str(batch), "2", str(steps))
        for name, figures in result["passes"].items():
            ours[name].append(figures["median_s"])
            bare[name].append(statistics.median(loop[name]))
    print(f"\n{model}, batch {batch}: median seconds per step, {rounds} interleaved rounds of {steps} steps")
    print(f"{'':20}{'in a sweep':>12}{'bare loop':>12}{'ratio':>8}   rounds: in a sweep | bare")
    for name in ours:
        a, b = statistics.median(ours[name]), statistics.median(bare[name])
        each = " | ".join(" ".join(f"{value:.4f}" for value in values) for values in (ours[name], bare[name]))
        print(f"{name:20}{a:12.4f}{b:12.4f}{a / b:8.3f}   {each}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    if options.trials:
        overhead(options.trials)
    if options.rounds:
        step_time(options.model, options.batch, options.steps, options.rounds)


if __name__ == "__main__":
    main()
