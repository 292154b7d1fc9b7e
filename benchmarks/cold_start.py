"""Time from a cold start to a printed result: one `tiny` trial by the command line, relative to importing TensorFlow.

Rounds are interleaved, each in an empty folder with a new MLflow database. `result` is when the trial's line is on the
screen, `end` when the command has drawn its plots, written its report and stopped. Ratios are to the import.

usage: python benchmarks/cold_start.py [--rounds 5] [SWEEP OVERRIDES ...]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORT = [sys.executable, "-c", "import tensorflow"]
TRIAL = [sys.executable, str(ROOT / "sweeps" / "run.py"), "model=tiny", "batch=1"]
CASES = {
    "Ray, MLflow (default)": [],
    "inline, MLflow": ["cluster=inline"],
    "inline, no sink": ["cluster=inline", "tracking=none"],
}


def command_s(arguments: list[str]) -> tuple[float, float]:
    """Return the seconds until the trial's line is printed, and until the command has ended."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result_s = 0.0
        with subprocess.Popen([*TRIAL, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                if line.startswith("1/1"):
                    result_s = time.perf_counter() - start
    if process.returncode or not result_s:
        raise RuntimeError(f"expected an ok trial of {arguments}. Received: exit {process.returncode}")
    return result_s, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", default=["protocol=classic", "protocol.burn_in=1", "protocol.steps=3"])
    options = parser.parse_args()
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        start = time.perf_counter()
        subprocess.run(IMPORT, check=True, stderr=subprocess.DEVNULL)
        seconds["import tensorflow"].append(time.perf_counter() - start)
        for name, arguments in CASES.items():
            result_s, end_s = command_s([*arguments, *options.overrides])
            seconds[f"{name}: result"].append(result_s)
            seconds[f"{name}: end"].append(end_s)
    base = statistics.median(seconds["import tensorflow"])
    print(f"\n{options.rounds} rounds: {TRIAL[-2]} {TRIAL[-1]} {' '.join(options.overrides)}")
    print(f"{'':32}{'median s':>9}{'ratio':>7}   each")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:32}{middle:9.2f}{middle / base:7.2f}   {' '.join(f'{value:.2f}' for value in values)}")


if __name__ == "__main__":
    main()
