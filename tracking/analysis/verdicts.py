"""Compares two sweeps: pairs their trials, judges which side is faster, and lists what NEW lost.

docs/compare.md says how a verdict is reached and why.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Literal

from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.disturbance import Side, side_of
from tracking.analysis.stats.intervals import Ratio, ratio_interval
from tracking.axes import point_of
from tracking.names import host_name, trial_names
from tracking.record import PASSES, Pass, Result, Trial
from tracking.schema.device import Device

Verdict = Literal["SLOWER", "FASTER", "SAME", "UNDECIDED"]

SWEEPS_APART = 0.5
"""How much a machine's state differs between two sweeps, as a share of the spread between the runs of one."""
SWEEP_NOISE = 0.025
"""Relative standard deviation of a machine's level from one sweep to the next, assumed unless it was measured."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A point that both grids have, with its repeats on either side."""

    name: str
    base: tuple[Result, ...]
    new: tuple[Result, ...]
    """Empty where NEW plans the point but has no result of it."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A point that BASE measured and NEW did not, or only in part."""

    name: str
    words: str
    """What became of it, e.g. `in NEW oom in 1 of 3 runs`."""

    def __str__(self) -> str:
        return f"{self.name}: measured in BASE, {self.words}"


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The points of both sweeps, the names of those that only one has, and what NEW lost."""

    pairs: tuple[Pair, ...]
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]
    losses: tuple[Loss, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One pass of a pair, measured on both sides."""

    pair: Pair
    pass_name: Pass
    base_s: float
    """The side's typical step: geometric mean of its runs' medians, seconds."""
    new_s: float
    sides: tuple[Side, Side]
    """What the base and the new side rest on."""
    ratio: Ratio
    verdict: Verdict
    detectable: float
    """The smallest true ratio that would have been called SLOWER, given the width of the interval and how much of it
    disturbances may have hidden; may be infinite."""

    @property
    def label(self) -> str:
        """The trial's name and the pass."""
        return f"{self.pair.name}, {PASS_TITLES[self.pass_name]}"


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A point of a grid: its trial, as of the first repeat, and the results of all repeats."""

    trial: Trial
    results: list[Result] = field(default_factory=list)


def pair_up(
    base: Sequence[Result], new: Sequence[Result], *, planned: Iterable[Trial] = (), across_hosts: bool = False
) -> Pairs:
    """Pair the results of trials that differ in nothing but the repeat.

    `planned` are NEW's trials, of which some may have no result yet. Where a side ran on several hosts, those of one
    host are a pair, for each host that both sides ran on. With `across_hosts`, trials that differ in nothing but the
    device are a pair too, where neither side has several.
    """
    old, recent = _points(base), _points(new, planned)
    partner = {point: point for point in old if point in recent}
    if across_hosts:
        old_rest = _by_rest(old, old.keys() - partner.keys())
        recent_rest = _by_rest(recent, recent.keys() - partner.keys())
        for rest in old_rest.keys() & recent_rest.keys():
            if len(old_rest[rest]) == len(recent_rest[rest]) == 1:
                partner[old_rest[rest][0]] = recent_rest[rest][0]
    names = trial_names([point.trial for point in (*old.values(), *recent.values())])
    met = set(partner.values())
    pairs: list[Pair] = []
    alone = [names[point] for point in old if point not in partner]
    losses: list[Loss] = []
    for point, mine in old.items():
        other = recent[partner[point]] if point in partner else None
        losses += _losses(names[point], mine.results, None if other is None else other.results)
        if other is None:
            continue
        name = names[point] if partner[point] == point else f"{names[point]} > {other.trial.device.label}"
        of_hosts, hosts_alone = _by_host(Pair(name=name, base=tuple(mine.results), new=tuple(other.results)))
        pairs += of_hosts
        alone += hosts_alone
    return Pairs(
        pairs=tuple(pairs),
        only_base=tuple(alone),
        only_new=tuple(names[point] for point in recent if point not in met),
        losses=tuple(losses),
    )


def compare(
    pairs: Iterable[Pair], threshold: float, sweep_noise: float = SWEEP_NOISE, seed: int = 0
) -> list[Comparison]:
    """A verdict on every pass that both sides of a pair measured."""
    return [
        _comparison(pair, name, (old, recent), threshold, sweep_noise, seed)
        for pair in pairs
        for name in PASSES
        if (old := side_of(pair.base, name)).runs and (recent := side_of(pair.new, name)).runs
    ]


def _comparison(
    pair: Pair, pass_name: Pass, sides: tuple[Side, Side], threshold: float, sweep_noise: float, seed: int
) -> Comparison:
    old, recent = sides
    # A --sweep-noise measured on a quiet machine does not hold where others were at work.
    level = max(sweep_noise, SWEEP_NOISE) if old.disturbed or recent.disturbed else sweep_noise
    noise = (old.lone_noise, recent.lone_noise)
    ratio = _corrected(ratio_interval(old.runs, recent.runs, seed, SWEEPS_APART, noise, level), old, recent)
    # A true slow-down looks smaller where BASE was measured too long or NEW too short.
    hidden = old.lengthened * recent.shortened
    return Comparison(
        pair=pair,
        pass_name=pass_name,
        base_s=_typical(old.runs),
        new_s=_typical(recent.runs),
        sides=sides,
        ratio=ratio,
        verdict=judge(ratio, threshold),
        detectable=max(1 + threshold, hidden * ratio.ratio / ratio.low if ratio.low else math.inf),
    )


def _corrected(ratio: Ratio, base: Side, new: Side) -> Ratio:
    """The interval, widened by what disturbances may have added to either side and missing work may have saved."""
    low = ratio.low / (new.lengthened * base.shortened)
    high = ratio.high * base.lengthened * new.shortened
    return Ratio(ratio.ratio, low, high)


def judge(ratio: Ratio, threshold: float) -> Verdict:
    """SAME: the whole interval is within the threshold. SLOWER, FASTER: it leaves out 1 and the ratio is beyond it."""
    limit = 1 + threshold
    if 1 / limit <= ratio.low and ratio.high <= limit:
        return "SAME"
    if ratio.low > 1 and ratio.ratio > limit:
        return "SLOWER"
    if ratio.high < 1 and ratio.ratio < 1 / limit:
        return "FASTER"
    return "UNDECIDED"


def differing_fields(base: Iterable[Trial], new: Iterable[Trial]) -> list[str]:
    """The fields in which all trials of one side differ from all of the other: why nothing pairs."""
    old, recent = ([point_of(trial).identity for trial in side] for side in (base, new))
    return [
        key
        for key in dict.fromkeys(key for trial in [*old[:1], *recent[:1]] for key in trial)
        if not {json.dumps(trial.get(key), sort_keys=True) for trial in old}
        & {json.dumps(trial.get(key), sort_keys=True) for trial in recent}
    ]


def _losses(name: str, base: Sequence[Result], new: Sequence[Result] | None) -> list[Loss]:
    """What NEW lost of one point; `new` is None where NEW's grid does not have it."""
    measured = {pass_name for result in base for pass_name in result.passes}
    if not measured:
        return []
    if new is None:
        return [Loss(name=name, words="not in NEW's grid")]
    if not new:
        return [Loss(name=name, words="without a result in NEW")]
    short = [result for result in new if measured - result.passes.keys()]
    if not short:
        return []
    runs = f" in {len(short)} of {len(new)} runs" if len(new) > 1 else ""
    without = sorted(measured - short[0].passes.keys())
    passes = f", without {' and '.join(without)}" if short[0].passes else ""
    return [Loss(name=name, words=f"in NEW {short[0].status}{runs}{passes}")]


def _by_host(pair: Pair) -> tuple[list[Pair], list[str]]:
    """The pair itself, or one for each host that both sides ran on; and the base's names of hosts that NEW lacks."""
    old, recent = ({host_name(result) for result in side if result.host} for side in (pair.base, pair.new))
    if (len(old) < 2 and len(recent) < 2) or not old & recent:
        return [pair], []
    pairs = [
        Pair(
            name=f"{pair.name} on {name}",
            base=tuple(result for result in pair.base if host_name(result) == name),
            new=tuple(result for result in pair.new if host_name(result) == name),
        )
        for name in sorted(old & recent)
    ]
    return pairs, [f"{pair.name} on {name}" for name in sorted(old - recent)]


def _points(results: Iterable[Result], planned: Iterable[Trial] = ()) -> dict[str, _Point]:
    """The points by the id of their first repeat, in the order of the results, then that of the plan."""
    points: dict[str, _Point] = {}
    for result in results:
        trial = point_of(result.trial)
        points.setdefault(trial.trial_id, _Point(trial=trial)).results.append(result)
    for trial in map(point_of, planned):
        points.setdefault(trial.trial_id, _Point(trial=trial))
    return points


def _by_rest(points: Mapping[str, _Point], wanted: Iterable[str]) -> dict[str, list[str]]:
    """The ids of the wanted points, by everything but their device."""
    rest: dict[str, list[str]] = defaultdict(list)
    for point in wanted:
        rest[replace(points[point].trial, device=Device()).trial_id].append(point)
    return rest


def _typical(runs: Iterable[Sequence[float]]) -> float:
    return math.exp(fmean(math.log(median(run)) for run in runs))
