"""How often a comparison of sweeps is wrong: A/A pairs, and pairs whose second side is slower by a known delay.

Pairs of sweeps of the same trial, one after the other; every pair goes through `tracking/compare.py`'s own verdict. The
A/A sweeps tell what this machine's level does from sweep to sweep; pairs with a delay are judged with that, too, as by
`compare.py --sweep-noise`.

usage: python benchmarks/verdicts.py [--pairs 20] [--repeats 3] [--delayed 3] [--delays 0.05 0.2]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent)
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from noise_floor import spreads
from side_by_side import sweep

from tracking.record import Result
from tracking.verdicts import SWEEP_NOISE, Comparison, compare, pair_up

GRID = ["model._target_=benchmarks.delayed.alexnet", "batch=8", "passes=[forward]", "cluster=inline", "tracking=none"]
GRID += ["protocol.max_seconds=1", "protocol.max_warmup_seconds=1", "calibrate=false"]


def run(repeats: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        _, lines = sweep(Path(folder), *GRID, f"repeats={repeats}")
    return [Result.from_json(line) for line in lines]


def show(label: str, comparison: Comparison, counts: Counter[str]) -> None:
    counts[comparison.verdict] += 1
    ratio = comparison.ratio
    interval = f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    print(f"{label:30} {interval:26} {comparison.verdict}", flush=True)


def medians(results: list[Result]) -> list[float]:
    return [result.passes["forward"].median_s for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--delayed", type=int, default=3, help="pairs for each delay")
    parser.add_argument("--delays", type=float, nargs="+", default=[0.05, 0.2], help="as shares of the undelayed step")
    parser.add_argument("--threshold", type=float, default=0.02)
    options = parser.parse_args()
    same: Counter[str] = Counter()
    levels: list[list[float]] = []
    for index in range(options.pairs):
        base, new = run(options.repeats), run(options.repeats)
        levels += [medians(base), medians(new)]
        show(f"A/A {index + 1}", *compare(pair_up(base, new).pairs, options.threshold), same)
    print(f"A/A: {dict(same)}")
    noises = {"": SWEEP_NOISE}
    if len(levels) > 1:
        noises[", measured sweep noise"] = max(spreads(levels)[0], 0.001)
        print("between sweeps {:.4f}, between runs {:.4f}".format(*spreads(levels)))
    for delay in options.delays:
        slower: dict[str, Counter[str]] = {words: Counter() for words in noises}
        for index in range(options.delayed):
            base = run(options.repeats)
            os.environ["DELAY_S"] = str(delay * min(medians(base)))
            new = run(options.repeats)
            del os.environ["DELAY_S"]
            for words, noise in noises.items():
                found = compare(pair_up(base, new).pairs, options.threshold, noise)
                show(f"+{delay:.0%} {index + 1}{words}", *found, slower[words])
        for words, counts in slower.items():
            print(f"slower by {delay:.0%}{words}: {dict(counts)}")


if __name__ == "__main__":
    main()
