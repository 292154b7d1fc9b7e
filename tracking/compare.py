"""Compare two sweeps: `python tracking/compare.py BASE NEW`.

Each is a sweep's folder, its id under ./multirun or ./outputs, `latest`, or in MLflow the parent run's id or the
sweep's. Says of every trial and pass whether NEW is FASTER, SLOWER, the SAME or UNDECIDED and what slow-down would have
been found, and draws the ratios with their intervals.
Exit codes: 0; 2 bad usage, BASE without measurements, nothing in common, or unlike hosts; 3 where NEW failed, lacks or
is still to run what BASE measured (unless `--allow-lost`), and with `--fail-on` and `--largest` where their condition
is not met.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    # Python puts the script's folder there, whose modules nobody imports by their bare names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich.text import Text

from tracking import startup
from tracking.analysis.gate import FAIL_ON, Gate
from tracking.analysis.host_facts import allow_option, not_allowed, unknown_names, unlike_facts
from tracking.analysis.verdicts import SWEEP_NOISE, Pairs, compare, differing_fields, pair_up
from tracking.folder.journal import JournalError
from tracking.record import Result, Trial
from tracking.show import read
from tracking.sinks.mlflow.source import SourceError
from tracking.tables.comparison_table import print_comparisons
from tracking.text.screen import Screen


class CompareError(Exception):
    """The two sweeps cannot be compared; the message says why."""


class Source(NamedTuple):
    """One side: what it was called on the command line, its planned trials and their results."""

    name: str
    trials: tuple[Trial, ...]
    results: list[Result]

    @property
    def unfinished(self) -> int:
        """How many planned trials have no result, not even a failure."""
        ended = {result.trial_id for result in self.results}
        return sum(trial.trial_id not in ended for trial in self.trials)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print and draw; the exit code."""
    options = _parser().parse_args(arguments)
    # Piped output has no width of its own; wide lines can be searched.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140
    console, complaints = Screen(highlight=False, width=width), Screen(stderr=True, highlight=False, soft_wrap=True)
    try:
        base, new = _sources(options)
        pairs = _pairs(base, new, across_hosts=options.across_hosts)
        unlike = _unlike(pairs, options)
    except CompareError as error:
        complaints.print(Text(str(error)))
        return 2
    comparisons = compare(pairs.pairs, options.threshold, options.sweep_noise)
    print_comparisons(console, pairs, comparisons, unlike, options.threshold, options.sweep_noise)
    if options.allow_lost:
        for loss in pairs.losses:
            console.print(Text(f"Lost     {loss}, which is allowed"))
    for side, source in (("BASE", base), ("NEW", new)):
        if source.unfinished:
            console.print(Text(f"{side} {source.name}: {source.unfinished} planned trials have no result", style="red"))
    if comparisons:
        # Here, because it imports matplotlib.
        from tracking.plots.comparison_plots import draw_across, draw_ratios

        drawn = [draw_ratios(comparisons, options.threshold, options.output)]
        if options.across_hosts:
            drawn += draw_across(comparisons, options.output)
        for path in drawn:
            console.print(Text(f"Drawn    {path}"), soft_wrap=True)
    gate = Gate(
        fail_on=frozenset().union(*(FAIL_ON[word] for word in options.fail_on)),
        largest=options.largest,
        allow_lost=options.allow_lost,
    )
    failures = gate.failures(comparisons, pairs.losses, new.unfinished)
    for line in failures:
        console.print(Text(f"Failed   {line}", style="red"), soft_wrap=True)
    return 3 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare two sweeps: which trials became faster, slower, or stayed the same. See docs/compare.md."
    )
    place = (
        "a sweep's folder, its id under ./multirun or ./outputs, `latest`, or in MLflow a parent run's id or a sweep's"
    )
    parser.add_argument("base", metavar="BASE", help=place)
    parser.add_argument("new", metavar="NEW", help="the same, for the sweep that is compared with it")
    parser.add_argument(
        "--threshold", type=_share, default=0.02, help="the smallest difference that matters, as a share (0.02)"
    )
    parser.add_argument(
        "--sweep-noise",
        type=_share,
        default=SWEEP_NOISE,
        help="how much this machine's level varies from sweep to sweep, as a share (0.025); measured by "
        "benchmarks/trust/noise_floor.py",
    )
    parser.add_argument(
        "--fail-on",
        type=_verdicts,
        action="extend",
        default=[],
        metavar="slower,undecided",
        help="exit 3 when a trial is SLOWER; with `undecided`, when it is SLOWER or UNDECIDED",
    )
    parser.add_argument(
        "--largest",
        type=_share,
        metavar="SHARE",
        help="exit 3 when a slow-down of this share, e.g. 0.1, is not excluded: the interval's upper end is above 1.1",
    )
    parser.add_argument(
        "--allow-lost", action="store_true", help="do not exit 3 for what BASE measured and NEW failed or does not have"
    )
    parser.add_argument(
        "--allow",
        type=_names,
        action="extend",
        default=[],
        metavar="FACT,FACT",
        help="what may differ between the hosts, by the names that a refusal prints, e.g. kernel,python,env",
    )
    parser.add_argument(
        "--across-hosts",
        action="store_true",
        help="compare hosts that differ in anything, and trials that differ in the device only",
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


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _verdicts(text: str) -> list[str]:
    words = _names(text)
    if not words or not set(words) <= FAIL_ON.keys():
        raise argparse.ArgumentTypeError(f"expected {' or '.join(FAIL_ON)}, or both with a comma. Received: {text}")
    return words


def _sources(options: argparse.Namespace) -> tuple[Source, Source]:
    """Read both sides. Raises CompareError for what is no sweep, and for a BASE that measured nothing."""
    sides, problems = [], []
    for name in (options.base, options.new):
        try:
            sweep, results = read(name, options.uri)
        except (JournalError, SourceError) as error:
            problems.append(str(error))
        else:
            sides.append(Source(name, sweep.trials, results))
    if problems:
        raise CompareError("\n".join(problems))
    base, new = sides
    if not any(result.passes for result in base.results):
        statuses = Counter(result.status for result in base.results)
        became = ", ".join(f"{count} {status}" for status, count in statuses.most_common()) or "no result yet"
        raise CompareError(
            f"expected a BASE with measured trials. Received: {base.name}, with none ({became}). "
            "Name a sweep that measured the trials of NEW"
        )
    return base, new


def _pairs(base: Source, new: Source, *, across_hosts: bool) -> Pairs:
    pairs = pair_up(base.results, new.results, planned=new.trials, across_hosts=across_hosts)
    if not pairs.pairs:
        old = [result.trial for result in base.results]
        fields = differing_fields(old, [*(result.trial for result in new.results), *new.trials])
        why = f"they differ in {', '.join(fields)}" if fields else "their grids have no point in common"
        hint = "; --across-hosts pairs unlike devices" if fields == ["device"] and not across_hosts else ""
        raise CompareError(f"expected trials that both sweeps hold. Received: {base.name} and {new.name}: {why}{hint}")
    return pairs


def _unlike(pairs: Pairs, options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """The differences between the hosts. Raises CompareError for those that are not allowed."""
    hosts = [([run.host for run in pair.base], [run.host for run in pair.new]) for pair in pairs.pairs]
    if problems := unknown_names(options.allow, [host for base, new in hosts for host in (*base, *new)]):
        raise CompareError("\n".join(problems))
    unlike = unlike_facts(hosts)
    refused = [] if options.across_hosts else not_allowed(unlike, options.allow)
    if refused:
        facts = "; ".join(f"{key}: {unlike[key][0]} and {unlike[key][1]}" for key in refused)
        allow = allow_option([*options.allow, *refused])
        raise CompareError(
            f"expected like hosts, or --across-hosts. The hosts differ in {facts}. Where that does not matter: {allow}"
        )
    return unlike


if __name__ == "__main__":
    startup.prepare()
    sys.exit(main())
