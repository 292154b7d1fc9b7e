"""Prints a comparison: a row for each trial and pass, and notes on the runs behind them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.stats.intervals import ratio_interval
from tracking.analysis.verdicts import SWEEPS_APART, Comparison, Pairs, Verdict
from tracking.text.units import seconds_unit

STYLES: dict[Verdict, str] = {"SLOWER": "bold red", "FASTER": "bold green", "SAME": "", "UNDECIDED": "yellow"}


def print_comparisons(
    console: Console,
    pairs: Pairs,
    comparisons: Sequence[Comparison],
    unlike: Mapping[str, tuple[str, str]],
    threshold: float,
    sweep_noise: float,
) -> None:
    """Print the table, how the hosts differ, what was not compared and why, and the summary."""
    if comparisons:
        console.print(_table(comparisons))
    for fact, (base, new) in unlike.items():
        console.print(Text(f"Unlike   {fact}: {base} and {new}"))
    for side, names in (("BASE", pairs.only_base), ("NEW", pairs.only_new)):
        if names:
            console.print(Text(f"Only in {side}: {', '.join(names)}"))
    for note, labels in _notes(comparisons).items():
        console.print(Text(f"{note}: {'; '.join(labels)}"))
    counts = Counter(comparison.verdict for comparison in comparisons)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict])
    console.print(Text(f"Verdicts {words or 'none'}; differences below {100 * threshold:g}% do not matter"))
    if comparisons:
        console.print(Text(_sensitivity(comparisons)))
    if any(sum(len(side.runs) for side in comparison.sides) == 2 for comparison in comparisons):
        console.print(
            Text(
                "With one run per side, nothing shows how much runs differ: at least 2% is assumed, and a difference "
                f"below {_least_detectable(sweep_noise):.0%} stays UNDECIDED. To see more, sweep both with repeats=5 "
                "and give the --sweep-noise that benchmarks/trust/noise_floor.py finds for this machine."
            )
        )


def _table(comparisons: Sequence[Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("trial", overflow="fold", min_width=9)
    table.add_column("pass", overflow="fold", min_width=8)
    for column in ("runs", "base", "new", "new/base (95%)", "finds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for comparison in comparisons:
        ratio, low, high = comparison.ratio
        table.add_row(
            Text(comparison.pair.name),
            PASS_TITLES[comparison.pass_name],
            "/".join(str(len(side.runs)) for side in comparison.sides),
            _seconds(comparison.base_s),
            _seconds(comparison.new_s),
            f"{ratio:.3f} ({low:.3f}-{high:.3f})",
            _slowdown(comparison.detectable),
            Text(comparison.verdict, style=STYLES[comparison.verdict]),
        )
    return table


def _notes(comparisons: Sequence[Comparison]) -> dict[str, list[str]]:
    """Notes on runs left aside or in doubt, with the comparisons that they concern."""
    notes: dict[str, list[str]] = defaultdict(list)
    for comparison in comparisons:
        for name, side in zip(("BASE", "NEW"), comparison.sides, strict=True):
            total = len(side.runs) + len(side.left_aside)
            if side.left_aside:
                words = f"{total} runs, {len(side.left_aside)} disturbed left aside ({_kinds(side.left_aside)})"
                notes[f"Aside    {name} {words}"].append(comparison.label)
            if side.doubts:
                words = f"{len(side.doubts)} of {len(side.runs)} compared runs ({_kinds(side.doubts)})"
                notes[f"Doubts   {name} {words}{''.join(_consequences(side.lengthened, side.shortened))}"].append(
                    comparison.label
                )
    return notes


def _kinds(doubts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(doubts))


def _consequences(lengthened: float, shortened: float) -> Iterator[str]:
    if lengthened > 1:
        yield f", their typical step may be {lengthened:.2f} times too long"
    if shortened > 1:
        yield ", work may be missing, so that the true time is longer by an unknown amount"


def _sensitivity(comparisons: Sequence[Comparison]) -> str:
    """The slow-down that none of the comparisons would have missed."""
    least = max(comparisons, key=lambda comparison: comparison.detectable)
    if math.isinf(least.detectable):
        return f"Finds    no slow-down at all in {least.label}"
    every = f"in each; the least sensitive is {least.label}" if len(comparisons) > 1 else f"in {least.label}"
    return f"Finds    a slow-down of {_slowdown(least.detectable)[1:]} or more would have been called SLOWER {every}"


def _slowdown(factor: float) -> str:
    """The factor as a percentage above 1, rounded up so that it is not less than what is found."""
    if math.isinf(factor):
        return "none"
    share = 100 * (factor - 1)
    return f"+{math.ceil(share - 1e-9)}%" if share >= 10 else f"+{math.ceil(10 * share - 1e-9) / 10:g}%"


def _least_detectable(sweep_noise: float) -> float:
    """The smallest difference that single runs without any noise in their steps can show."""
    steps = [[1.0] * 10]
    return ratio_interval(steps, steps, apart=SWEEPS_APART, sweep_noise=sweep_noise).high - 1


def _seconds(value: float) -> str:
    factor, unit = seconds_unit(value)
    return f"{value * factor:.4g} {unit}"
