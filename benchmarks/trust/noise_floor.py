"""The smallest difference that this machine can resolve: the same trial in several sweeps, one after the other.

How much whole sweeps differ, beyond what their repeats explain, is the figure for `compare.py --sweep-noise`; no number
of repeats averages it out. Disturbed runs are left aside, as in `compare.py`.

usage: python benchmarks/trust/noise_floor.py [--sweeps 8] [--repeats 3] [OVERRIDES ...]

Default: model=alexnet_conv batch=8.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.side_by_side import sweep
from tracking.analysis.disturbance import side_of
from tracking.record import Pass, Result

Z = 1.96


def spreads(sweeps: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the relative standard deviations between sweeps, and between the runs of a sweep, from each run's median.

    This is an analysis of variance of the logarithms: the variance of the sweeps' means, less the part due to runs.
    """
    logs = [[math.log(value) for value in runs] for runs in sweeps]
    within = statistics.fmean(statistics.variance(runs) if len(runs) > 1 else 0.0 for runs in logs)
    means = statistics.variance([statistics.fmean(runs) for runs in logs])
    repeats = statistics.fmean(len(runs) for runs in logs)
    return math.sqrt(max(0.0, means - within / repeats)), math.sqrt(within)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", default=["model=alexnet_conv", "batch=8"])
    options = parser.parse_args()
    medians: dict[Pass, list[list[float]]] = defaultdict(list)
    left_aside: Counter[Pass] = Counter()
    doubts: set[str] = set()
    for _ in range(options.sweeps):
        with tempfile.TemporaryDirectory() as folder:
            grid = [*options.overrides, f"repeats={options.repeats}", "cluster=inline", "tracking=none"]
            _, lines = sweep(Path(folder), *grid)
        results = [Result.from_json(line) for line in lines]
        doubts |= {reason for result in results for reason in result.quality}
        for name in results[0].passes:
            side = side_of(results, name)
            medians[name].append([statistics.median(run) for run in side.runs])
            left_aside[name] += len(side.left_aside)
    print(f"\n{' '.join(options.overrides)}, {options.sweeps} sweeps of {options.repeats} repeats")
    for name, values in medians.items():
        between, within = spreads(values)
        limits = {n: Z * math.sqrt(2 * (between**2 + within**2 / n)) for n in (1, 3, 10)}
        resolved = ", ".join(f"{limit:.1%} with repeats={n}" for n, limit in limits.items())
        middle = statistics.median(value for runs in values for value in runs)
        print(f"{name:18} median {middle:.5f} s, --sweep-noise {between:.4f}, runs {within:.4f}; resolves {resolved}")
        if left_aside[name]:
            print(f"{'':18} {left_aside[name]} disturbed runs left aside")
        print(f"{'':18} each: {' | '.join(' '.join(f'{value:.5f}' for value in runs) for runs in values)}")
    print("doubts:", "; ".join(sorted(doubts)) or "none")


if __name__ == "__main__":
    main()
