"""How often a comparison reports a change, simulated: equal sides and true slow-downs, with some runs disturbed.

Undisturbed runs of a side differ by 1%, the sides' levels by 1%, steps by 2%. A disturbed run carries a doubt and takes
up to twice as long; unseen disturbances take up to 5% longer. Prints the table in docs/compare.md.

usage: python benchmarks/trust/verdict_rates.py [--rounds 400]
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from tracking.analysis.verdicts import compare, pair_up
from tracking.record import Result, Trial
from tracking.schema.measurement import Measurement

BETWEEN_RUNS = 0.01
BETWEEN_SWEEPS = 0.01
STEPS = 20
STEP_NOISE = 0.02
REPEATS = (1, 3, 5, 10)
DISTURBED = {
    "none": (0.0, 0.0, 1.0),
    "one run of NEW": (0.0, 0.01, 1.0),
    "half of NEW": (0.0, 0.5, 1.0),
    "half of NEW, the rest unseen": (0.0, 0.5, 1.05),
    "half of BASE": (0.5, 0.0, 1.0),
    "half of both": (0.5, 0.5, 1.0),
}
"""Shares of BASE's and NEW's runs that are disturbed, rounded up, and the largest unseen factor on NEW's others."""
SLOWER_BY = (0.0, 0.05, 0.2, 1.0)


def side(runs: int, disturbed: int, slower: float, rng: random.Random, unseen: float = 1.0) -> list[Result]:
    """Return one side's runs of a trial: the first `disturbed` take up to twice as long, the others `unseen` times."""
    level = 0.1 * (1 + slower) * rng.gauss(1, BETWEEN_SWEEPS)
    results = []
    for repeat in range(runs):
        middle = level * rng.gauss(1, BETWEEN_RUNS)
        middle *= rng.uniform(1, 2 if repeat < disturbed else unseen)
        steps = tuple(middle * rng.gauss(1, STEP_NOISE) for _ in range(STEPS))
        measured = Measurement(first_call_s=1.0, warmup_s=(), step_s=steps, stopped="target")
        trial = Trial(model="simulated", batch=1, passes=("forward",), repeat=repeat)
        quality = ("contention: others had 40% of the cores (forward)",) if repeat < disturbed else ()
        result = Result(trial=trial, sweep_id="simulated", status="ok", passes={"forward": measured})
        results.append(replace(result, quality=quality))
    return results


def verdicts(repeats: int, disturbed: str, slower: float, rounds: int) -> Counter[str]:
    """Count the verdicts of `rounds` comparisons; the same arguments give the same counts."""
    rng = random.Random(f"{repeats} {disturbed} {slower}")
    base_share, new_share, unseen = DISTURBED[disturbed]
    base, new = math.ceil(base_share * repeats), math.ceil(new_share * repeats)
    counts: Counter[str] = Counter()
    for _ in range(rounds):
        pairs = pair_up(side(repeats, base, 0.0, rng), side(repeats, new, slower, rng, unseen)).pairs
        counts.update(comparison.verdict for comparison in compare(pairs, threshold=0.02))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="comparisons for each number in the table")
    options = parser.parse_args()
    print(
        "| disturbed | repeats | wrong on equal sides | " + " | ".join(f"+{s:.0%} found" for s in SLOWER_BY[1:]) + " |"
    )
    print("| --- " * (3 + len(SLOWER_BY) - 1) + "|")
    for disturbed in DISTURBED:
        for repeats in REPEATS:
            shares = []
            for slower in SLOWER_BY:
                counts = verdicts(repeats, disturbed, slower, options.rounds)
                called = counts["SLOWER"] + (0 if slower else counts["FASTER"])
                shares.append(f"{called / options.rounds:.1%}" if not slower else f"{called / options.rounds:.0%}")
            print(f"| {disturbed} | {repeats} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    main()
