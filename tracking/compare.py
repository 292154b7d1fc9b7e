"""Compare two sweeps: `python tracking/compare.py BASE NEW`.

Each is a sweep's folder, its id under ./multirun or ./outputs, `latest`, or in MLflow the parent run's id or the
sweep's. Says of every trial and pass whether NEW is FASTER, SLOWER, the SAME or UNDECIDED, and draws the ratios with
their intervals.
Exit codes: 0; 2 bad usage, nothing to compare, or unlike hosts; 3 with `--fail-on slower` when something is slower, was
measured in BASE and failed in NEW, or has no result in NEW yet.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    # Python puts the script's own folder there, whose modules are none that anybody imports by their bare names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking.curves import PASS_TITLES
from tracking.journal import JournalError
from tracking.mlflow_source import SourceError
from tracking.record import Result
from tracking.show import read
from tracking.stats import ratio_interval
from tracking.units import seconds_unit
from tracking.verdicts import (
    SWEEP_NOISE,
    SWEEPS_APART,
    Comparison,
    Pairs,
    Verdict,
    compare,
    differing_fields,
    lost,
    pair_up,
    unlike_facts,
)

STYLES: dict[Verdict, str] = {"SLOWER": "bold red", "FASTER": "bold green", "SAME": "", "UNDECIDED": "yellow"}


class CompareError(Exception):
    """The two sweeps cannot be compared; one sentence says why."""


class Source(NamedTuple):
    """One side: what it was called on the command line, its results, and how many planned trials have none."""

    name: str
    results: list[Result]
    missing: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print and draw; the exit code."""
    options = _parser().parse_args(arguments)
    # Piped output has no width of its own; wide lines can be searched.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    complaints = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        base, new = (_read(name, options.uri) for name in (options.base, options.new))
        pairs = _pairs(base, new, across_hosts=options.across_hosts)
    except (CompareError, JournalError, SourceError) as error:
        complaints.print(Text(str(error)))
        return 2
    comparisons = compare(pairs.pairs, options.threshold, options.sweep_noise)
    _print(console, pairs, comparisons, options)
    for source in (base, new):
        if source.missing:
            console.print(Text(f"{source.name}: {source.missing} planned trials have no result", style="red"))
    if comparisons:
        # Here, because it imports matplotlib.
        from tracking.compare_plots import draw_across, draw_ratios

        drawn = [draw_ratios(comparisons, options.threshold, options.output)]
        if options.across_hosts:
            drawn += draw_across(comparisons, options.output)
        for path in drawn:
            console.print(Text(f"Drawn    {path}"), soft_wrap=True)
    slower = any(comparison.verdict == "SLOWER" for comparison in comparisons)
    worse = slower or lost(pairs.pairs) or new.missing
    return 3 if options.fail_on == "slower" and worse else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare two sweeps: which trials became faster, slower, or stayed the same. See docs/compare.md."
    )
    place = (
        "a sweep's folder, its id under ./multirun or ./outputs, `latest`, or in MLflow a parent run's id or a sweep's"
    )
    parser.add_argument("base", metavar="BASE", help=place)
    parser.add_argument("new", metavar="NEW", help="the same, for what is compared with it")
    parser.add_argument(
        "--threshold", type=_share, default=0.02, help="the smallest difference that matters, as a share (0.02)"
    )
    parser.add_argument(
        "--sweep-noise",
        type=_share,
        default=SWEEP_NOISE,
        help="how much this machine's level varies from sweep to sweep, as a share; benchmarks/noise_floor.py (0.025)",
    )
    parser.add_argument("--fail-on", choices=["slower"], help="exit 3 when a trial is slower or fails in NEW")
    parser.add_argument(
        "--across-hosts", action="store_true", help="compare unlike hosts, and trials that differ in the device only"
    )
    parser.add_argument("--output", type=Path, default=Path("compare.png"), help="the picture (./compare.png)")
    parser.add_argument("--uri", help="MLflow's address, instead of MLFLOW_TRACKING_URI or ./mlflow.db")
    return parser


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, e.g. 0.02. Received: {text}")
    return value


def _read(name: str, uri: str | None) -> Source:
    """One side's results. Raises JournalError or SourceError for what is no sweep, CompareError for an empty one."""
    sweep, results = read(name, uri)
    if not any(result.passes for result in results):
        raise CompareError(f"expected a sweep with measured trials. Received: {name}, with none")
    measured = {result.trial_id for result in results}
    return Source(name, results, sum(trial.trial_id not in measured for trial in sweep.trials))


def _pairs(base: Source, new: Source, *, across_hosts: bool) -> Pairs:
    pairs = pair_up(base.results, new.results, across_hosts=across_hosts)
    if not pairs.pairs:
        fields = differing_fields(base.results, new.results)
        why = f"they differ in {', '.join(fields)}" if fields else "their grids do not meet"
        hint = "; --across-hosts pairs unlike devices" if fields == ["device"] and not across_hosts else ""
        raise CompareError(f"expected trials that both sweeps hold. Received: {base.name} and {new.name}: {why}{hint}")
    unlike = unlike_facts(pairs.pairs)
    if unlike and not across_hosts:
        facts = "; ".join(f"{key}: {old} and {recent}" for key, (old, recent) in unlike.items())
        raise CompareError(f"expected like hosts, or --across-hosts. The hosts differ in {facts}")
    return pairs


def _print(console: Console, pairs: Pairs, comparisons: Sequence[Comparison], options: argparse.Namespace) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("trial", overflow="fold", min_width=10)
    table.add_column("pass", overflow="fold", min_width=8)
    for column in ("runs", "base", "new", "new/base (95%)"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for found in comparisons:
        ratio, low, high = found.ratio
        table.add_row(
            Text(found.pair.name),
            PASS_TITLES[found.pass_name],
            "{}/{}".format(*found.runs),
            _seconds(found.base_s),
            _seconds(found.new_s),
            f"{ratio:.3f} ({low:.3f}-{high:.3f})",
            Text(found.verdict, style=STYLES[found.verdict]),
        )
    console.print(table)
    unlike = unlike_facts(pairs.pairs)
    for key, (old, recent) in unlike.items():
        console.print(Text(f"Unlike   {key}: {old} and {recent}"))
    for side, names in (("BASE", pairs.only_base), ("NEW", pairs.only_new)):
        if names:
            console.print(Text(f"Only in {side}: {', '.join(names)}"))
    for pair, words in lost(pairs.pairs):
        console.print(Text(f"Measured in BASE, in NEW {words}: {pair.name}", style="red"))
    counts = Counter(found.verdict for found in comparisons)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict])
    console.print(Text(f"Verdicts {said or 'none'}; differences below {100 * options.threshold:g}% do not matter"))
    if any(sum(found.runs) == 2 for found in comparisons):
        console.print(
            Text(
                "With one run a side nothing shows how much runs differ: at least 2% is assumed, and a difference "
                f"below {_least_told(options.sweep_noise):.0%} stays UNDECIDED. To see more, sweep both with repeats=5 "
                "and give the --sweep-noise that benchmarks/noise_floor.py finds for this machine."
            )
        )


def _least_told(sweep_noise: float) -> float:
    """The smallest difference that single runs without any noise in their steps can show."""
    steps = [[1.0] * 10]
    return ratio_interval(steps, steps, apart=SWEEPS_APART, sweep_noise=sweep_noise).high - 1


def _seconds(value: float) -> str:
    factor, unit = seconds_unit(value)
    return f"{value * factor:.4g} {unit}"


if __name__ == "__main__":
    sys.exit(main())
