"""This system's step times in each mode, compared with the articles' way: same net, same machine, interleaved.

The modes are the three compilers, and `graph` in mixed bfloat16: different arithmetic, for processors that support it.

usage: python benchmarks/articles_way.py [--rounds 3] [--steps 6] [--cases alexnet_conv:32 vgg16:4]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.side_by_side import peer, sweep

ARTICLES = "articles"
MODES = {
    "graph": ("compile=graph", "precision=float32"),
    "xla": ("compile=xla", "precision=float32"),
    "eager": ("compile=eager", "precision=float32"),
    "graph bfloat16": ("compile=graph", "precision=bfloat16"),
}


def compare(model: str, batch: int, steps: int, rounds: int) -> None:
    medians: dict[tuple[str, str], list[float]] = defaultdict(list)
    protocol = ["protocol=classic", "protocol.burn_in=2", f"protocol.steps={steps}", "calibrate=false", "tracking=none"]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            step_s = peer(Path(folder), "article_graph.py", model, str(batch), "2", str(steps))
        for name, seconds in step_s.items():
            medians[name, ARTICLES].append(statistics.median(seconds))
        for mode, overrides in MODES.items():
            with tempfile.TemporaryDirectory() as folder:
                grid = [f"model={model}", f"batch={batch}", *overrides]
                _, (result,) = sweep(Path(folder), *grid, *protocol, "cluster=inline")
            for name, figures in result["passes"].items():
                medians[name, mode].append(figures["median_s"])
    print(f"\n{model}, batch {batch}: median seconds per step, {rounds} interleaved rounds (ratio to the articles)")
    for name in ("forward", "forward_backward"):
        base = statistics.median(medians[name, ARTICLES])
        row = f"{name:18} {ARTICLES} {base:.4f}"
        for mode in MODES:
            median = statistics.median(medians[name, mode])
            row += f"   {mode} {median:.4f} ({median / base:.2f})"
        print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--cases", nargs="+", default=["alexnet_conv:32", "vgg16:4"])
    options = parser.parse_args()
    for case in options.cases:
        model, _, batch = case.partition(":")
        compare(model, int(batch), options.steps, options.rounds)


if __name__ == "__main__":
    main()
