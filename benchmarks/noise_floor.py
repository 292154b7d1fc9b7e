"""What difference this machine can resolve: the same trial k times in one sweep, each time in a process of its own.

usage: python benchmarks/noise_floor.py [--times 8] [SWEEP OVERRIDES ...]      default: model=alexnet_conv batch=8
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from side_by_side import sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("overrides", nargs="*", default=["model=alexnet_conv", "batch=8"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _, results = sweep(Path(folder), *options.overrides, f"repeats={options.times}", "tracking=none")
    print(f"\n{options.times} runs of {' '.join(options.overrides)}")
    for name in results[0]["passes"]:
        medians = [result["passes"][name]["median_s"] for result in results]
        middle, sd = statistics.median(medians), statistics.stdev(medians)
        # Two means of n runs each differ by less than this in 95 of 100 A/A comparisons.
        resolves = [f"{runs} runs a side {2.8 * sd / middle / runs**0.5:.1%}" for runs in (1, 3, 10)]
        print(f"{name:18} median {middle:.5f} s, between runs sd {sd / middle:.2%}; resolves {', '.join(resolves)}")
        print(f"{'':18} each: {' '.join(f'{value:.5f}' for value in medians)}")
    doubts = sorted({doubt for result in results for doubt in result["quality"]})
    print("doubts:", "; ".join(doubts) if doubts else "none")


if __name__ == "__main__":
    main()
