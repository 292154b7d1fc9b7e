"""What difference this machine can resolve: the same trial in k sweeps, one after the other.

usage: python benchmarks/noise_floor.py [--sweeps 8] [SWEEP OVERRIDES ...]      default: model=alexnet_conv batch=8
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from side_by_side import sweep

Z = 1.96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=8)
    parser.add_argument("overrides", nargs="*", default=["model=alexnet_conv", "batch=8"])
    options = parser.parse_args()
    medians: dict[str, list[float]] = defaultdict(list)
    doubts: set[str] = set()
    for _ in range(options.sweeps):
        with tempfile.TemporaryDirectory() as folder:
            _, (result,) = sweep(Path(folder), *options.overrides, "cluster=inline", "tracking=none")
        doubts |= set(result["quality"])
        for name, figures in result["passes"].items():
            medians[name].append(figures["median_s"])
    print(f"\n{' '.join(options.overrides)}, {options.sweeps} sweeps")
    for name, values in medians.items():
        middle, spread = statistics.median(values), statistics.stdev(values) / statistics.mean(values)
        resolves = ", ".join(f"{Z * (2 / n) ** 0.5 * spread:.1%} with {n} a side" for n in (1, 3, 10))
        print(f"{name:18} median {middle:.5f} s, --sweep-noise {spread:.4f}; resolves {resolves}")
        print(f"{'':18} each: {' '.join(f'{value:.5f}' for value in values)}")
    print("doubts:", "; ".join(sorted(doubts)) or "none")


if __name__ == "__main__":
    main()
