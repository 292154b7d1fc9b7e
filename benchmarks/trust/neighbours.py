"""The cost of a neighbour: trials of one core each, one at a time and two at a time, interleaved.

usage: python benchmarks/trust/neighbours.py [--rounds 3] [SWEEP OVERRIDES ...]      default: model=alexnet_conv batch=4
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.side_by_side import sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", default=["model=alexnet_conv", "batch=4"])
    options = parser.parse_args()
    medians: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    doubts: dict[int, set[str]] = defaultdict(set)
    for _ in range(options.rounds):
        for at_once in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                shared = ["device.cpus=1", f"cluster.cpus={at_once}", "repeats=2", "tracking=none"]
                _, results = sweep(Path(folder), *options.overrides, *shared)
            for result in results:
                doubts[at_once] |= set(result["quality"])
                for name, figures in result["passes"].items():
                    medians[name][at_once].append(figures["median_s"])
    print(f"\n{' '.join(options.overrides)}, one core per trial, {options.rounds} interleaved rounds of 2 runs")
    for name, by_count in medians.items():
        alone, together = (statistics.median(by_count[count]) for count in (1, 2))
        each = " | ".join(" ".join(f"{value:.5f}" for value in by_count[count]) for count in (1, 2))
        print(f"{name:18} alone {alone:.5f} s, two at once {together:.5f} s, ratio {together / alone:.3f}   {each}")
    for count, reasons in sorted(doubts.items()):
        print(f"doubts with {count} at once:", "; ".join(sorted(reasons)) or "none")


if __name__ == "__main__":
    main()
