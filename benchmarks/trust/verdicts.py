"""How often a comparison of sweeps is wrong: A/A pairs, pairs with a known delay, pairs beside a busy loop.

Each pair is two sweeps of the same trial, one after the other, compared as `tracking/compare.py` does. The A/A sweeps
show how much this machine's level varies from sweep to sweep; pairs with a delay are also judged with that figure, as
by `compare.py --sweep-noise`. In disturbed pairs a busy loop runs beside the first half of NEW's runs; half of these
pairs are otherwise equal, and in the others NEW takes twice as long. Ends with the table for docs/compare.md. Takes
about 12 minutes on two idle cores.

usage: python benchmarks/trust/verdicts.py [--pairs 12] [--repeats 4] [--delayed 3] [--delays 0.05 0.2] [--disturbed 3]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.side_by_side import sweep
from benchmarks.trust.noise_floor import spreads
from tracking.analysis.verdicts import SWEEP_NOISE, Comparison, compare, pair_up
from tracking.record import Result

GRID = [
    "model._target_=benchmarks.trust.delayed.alexnet",
    "batch=8",
    "passes=[forward]",
    "cluster=inline",
    "tracking=none",
]
GRID += ["protocol.max_seconds=1", "protocol.max_warmup_seconds=1", "calibrate=false"]
VERDICTS = ("SLOWER", "FASTER", "SAME", "UNDECIDED")
POLL_S = 0.02


def run(repeats: int, *, delay_s: float = 0.0, disturbed: int = 0) -> list[Result]:
    """Run one sweep whose steps take `delay_s` longer, with a busy loop beside the first `disturbed` runs."""
    os.environ["DELAY_S"] = str(delay_s)
    with tempfile.TemporaryDirectory() as folder, busy_loop(Path(folder) / "sweep" / "results.jsonl", disturbed):
        _, lines = sweep(Path(folder), *GRID, f"repeats={repeats}")
    return [Result.from_json(line) for line in lines]


@contextmanager
def busy_loop(journal: Path, results: int) -> Iterator[None]:
    """Keep one core busy until the journal has that many results, or until the block ends."""
    if not results:
        yield
        return
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if journal.exists() and journal.read_bytes().count(b"\n") >= results:
                break
        loop.kill()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        loop.wait()


class Rows:
    """The comparisons, printed as they come and as a table at the end."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._rows: dict[str, list[Comparison]] = {}

    def add(self, label: str, base: list[Result], new: list[Result], sweep_noise: float = SWEEP_NOISE) -> None:
        (comparison,) = compare(pair_up(base, new).pairs, self._threshold, sweep_noise)
        members = self._rows.setdefault(label, [])
        members.append(comparison)
        ratio, low, high = comparison.ratio
        aside = ", ".join(
            f"{len(side.left_aside)} of {len(side.left_aside) + len(side.runs)}" for side in comparison.sides
        )
        doubts = sorted({reason.partition(":")[0] for result in (*base, *new) for reason in result.quality})
        print(
            f"{label} {len(members)}: {ratio:.3f} ({low:.3f} to {high:.3f}) {comparison.verdict}, "
            f"finds +{comparison.detectable - 1:.1%}; left aside {aside}; doubts: {', '.join(doubts) or 'none'}",
            flush=True,
        )

    def table(self) -> str:
        """Return a Markdown table of verdicts, ratios, and the range of the smallest slow-downs that would be found."""
        lines = [f"| | pairs | {' | '.join(VERDICTS)} | ratios | finds |", "| --- " * (len(VERDICTS) + 4) + "|"]
        for label, members in self._rows.items():
            counts = [sum(member.verdict == verdict for member in members) for verdict in VERDICTS]
            ratios = sorted(member.ratio.ratio for member in members)
            finds = sorted(member.detectable - 1 for member in members)
            lines.append(
                f"| {label} | {len(members)} | {' | '.join(map(str, counts))} "
                f"| {ratios[0]:.3f} to {ratios[-1]:.3f} | +{finds[0]:.1%} to +{finds[-1]:.1%} |"
            )
        return "\n".join(lines)


def medians(results: list[Result]) -> list[float]:
    return [result.passes["forward"].median_s for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--delayed", type=int, default=3, help="pairs for each delay")
    parser.add_argument("--delays", type=float, nargs="+", default=[0.05, 0.2], help="as shares of the undelayed step")
    parser.add_argument(
        "--disturbed", type=int, default=3, help="pairs with a busy loop beside half of NEW's runs; as many at +100%%"
    )
    parser.add_argument("--threshold", type=float, default=0.02)
    options = parser.parse_args()
    rows = Rows(options.threshold)
    levels: list[list[float]] = []
    for _ in range(options.pairs):
        base, new = run(options.repeats), run(options.repeats)
        levels += [medians(base), medians(new)]
        rows.add("the same against itself", base, new)
    noises = {"": SWEEP_NOISE}
    if levels:
        measured = max(spreads(levels)[0], 0.001)
        noises[f", --sweep-noise {measured:.4f}"] = measured
        print("between sweeps {:.4f}, between runs {:.4f}".format(*spreads(levels)))
    for delay in options.delays:
        for _ in range(options.delayed):
            base = run(options.repeats)
            new = run(options.repeats, delay_s=delay * min(medians(base)))
            for words, noise in noises.items():
                rows.add(f"+{delay:.0%} per step{words}", base, new, noise)
    half = (options.repeats + 1) // 2
    for delay, label in ((0.0, "the same"), (1.0, "+100% per step")):
        for _ in range(options.disturbed):
            base = run(options.repeats)
            new = run(options.repeats, delay_s=delay * min(medians(base)), disturbed=half)
            rows.add(f"{label}, {half} of {options.repeats} runs of NEW disturbed", base, new)
    print(rows.table())


if __name__ == "__main__":
    main()
