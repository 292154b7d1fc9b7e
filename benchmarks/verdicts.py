"""How often a comparison of sweeps is wrong: A/A pairs, and pairs whose second side is slower by a known delay.

Pairs of sweeps of the same trial, one after the other; every pair goes through `tracking/compare.py`'s own verdict.

usage: python benchmarks/verdicts.py [--pairs 20] [--repeats 3] [--delayed 3] [--delays 0.05 0.2]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent)
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from side_by_side import sweep

from tracking.record import Result
from tracking.verdicts import Comparison, compare, pair_up

GRID = ["model._target_=benchmarks.delayed.alexnet", "batch=8", "passes=[forward]", "cluster=inline", "tracking=none"]
GRID += ["protocol.max_seconds=1", "protocol.max_warmup_seconds=1", "calibrate=false"]


def run(repeats: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        _, lines = sweep(Path(folder), *GRID, f"repeats={repeats}")
    return [Result.from_json(line) for line in lines]


def show(label: str, comparisons: list[Comparison], counts: Counter[str]) -> None:
    for found in comparisons:
        counts[found.verdict] += 1
        ratio: Any = found.ratio
        name = f"b={found.pair.base[0].trial.batch} {found.pass_name}"
        print(
            f"{label:12} {name:22} {ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})  {found.verdict}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--delayed", type=int, default=3, help="pairs for each delay")
    parser.add_argument("--delays", type=float, nargs="+", default=[0.05, 0.2], help="as shares of the undelayed step")
    parser.add_argument("--threshold", type=float, default=0.02)
    options = parser.parse_args()
    same: Counter[str] = Counter()
    for index in range(options.pairs):
        pairs = pair_up(run(options.repeats), run(options.repeats)).pairs
        show(f"A/A {index + 1}", compare(pairs, options.threshold), same)
    print(f"A/A: {dict(same)}")
    for delay in options.delays:
        slower: Counter[str] = Counter()
        for index in range(options.delayed):
            base = run(options.repeats)
            forward = min(result.passes["forward"].median_s for result in base)
            os.environ["DELAY_S"] = str(delay * forward)
            new = run(options.repeats)
            del os.environ["DELAY_S"]
            show(f"+{delay:.0%} {index + 1}", compare(pair_up(base, new).pairs, options.threshold), slower)
        print(f"slower by {delay:.0%}: {dict(slower)}")


if __name__ == "__main__":
    main()
