"""Two sweeps against each other: which trials belong together, whether their hosts may be compared, what is faster.

docs/compare.md says how a verdict is reached and why.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Literal

from tracking.names import flatten, host_name, trial_names
from tracking.quality import doubts_of
from tracking.record import PASSES, Device, Pass, Result, Trial
from tracking.stats import RUN_NOISE, Ratio, ratio_interval

Verdict = Literal["SLOWER", "FASTER", "SAME", "UNDECIDED"]

_IGNORED_FACTS = {
    "hostname",
    "node_id",
    "node_ip",
    "lost_before",
    "memory_gb",
    "numpy",
    "ray",
    "mlflow",
    "hydra_core",
    "cuda_visible_devices",
    "gpu_uuid",
}
"""What may differ between hosts, or between a sweep's driver and its workers, without changing the time of a step."""
_DRIVER_FACTS = ("git", "tracking", "cluster", "user", "objective")
SWEEPS_APART = 0.5
"""How much a machine's state differs between two sweeps, as a share of the spread between the runs of one."""
SWEEP_NOISE = 0.025
"""Relative standard deviation of a machine's level from one sweep to the next, assumed unless it was measured."""
DISTURBED_SWEEP_NOISE = 0.2
"""The same where half of a side's runs were seen to be disturbed: its other runs were too, then, if less visibly."""
_DISTURBANCES = ("contention", "swapping", "throttling", "throttled", "frequency", "clock", "foreign")
DOUBTED_RUN_NOISE = 0.2
"""Least spread between runs, as a share, assumed of single runs when one of them has reasons to doubt its figures."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One point of both grids, with its repeats on either side."""

    name: str
    base: tuple[Result, ...]
    new: tuple[Result, ...]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What both sweeps hold, and the names of what only one of them does."""

    pairs: tuple[Pair, ...]
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One pass of a pair, measured on both sides."""

    pair: Pair
    pass_name: Pass
    base_s: float
    """The side's typical step: geometric mean of its runs' medians, seconds."""
    new_s: float
    runs: tuple[int, int]
    """Runs of the base and of the new side."""
    ratio: Ratio
    verdict: Verdict


def pair_up(base: Sequence[Result], new: Sequence[Result], *, across_hosts: bool = False) -> Pairs:
    """Put together the results of trials that ask for the same, whichever repeat they are.

    Where a side ran on several hosts, those of one host are a pair, for each host that both sides ran on. With
    `across_hosts`, trials that differ in nothing but the device are a pair too, where neither side has several.
    """
    old, recent = _by_point(base), _by_point(new)
    partner = {point: point for point in old if point in recent}
    if across_hosts:
        old_rest = _by_rest(old, old.keys() - partner.keys())
        recent_rest = _by_rest(recent, recent.keys() - partner.keys())
        for rest in old_rest.keys() & recent_rest.keys():
            if len(old_rest[rest]) == len(recent_rest[rest]) == 1:
                partner[old_rest[rest][0]] = recent_rest[rest][0]
    names = trial_names([_point(results[0].trial) for results in (*old.values(), *recent.values())])
    met = set(partner.values())
    return Pairs(
        pairs=tuple(
            pair
            for point, results in old.items()
            if point in partner
            for pair in _by_host(
                Pair(
                    name=names[point]
                    if partner[point] == point
                    else f"{names[point]} > {_device(recent[partner[point]])}",
                    base=tuple(results),
                    new=tuple(recent[partner[point]]),
                )
            )
        ),
        only_base=tuple(names[point] for point in old if point not in partner),
        only_new=tuple(names[point] for point in recent if point not in met),
    )


def unlike_facts(pairs: Iterable[Pair]) -> dict[str, tuple[str, str]]:
    """What the hosts of paired trials do not have in common: base and new value of each fact that both sides tell."""
    unlike: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        old, recent = _facts(pair.base), _facts(pair.new)
        for key in old.keys() & recent.keys():
            if old[key] != recent[key]:
                unlike.setdefault(key, (" or ".join(sorted(old[key])), " or ".join(sorted(recent[key]))))
    return dict(sorted(unlike.items()))


def compare(
    pairs: Iterable[Pair], threshold: float, sweep_noise: float = SWEEP_NOISE, seed: int = 0
) -> list[Comparison]:
    """A verdict on every pass that both sides of a pair measured."""
    found = []
    for pair in pairs:
        for name in PASSES:
            old = [result.passes[name].step_s for result in pair.base if name in result.passes]
            recent = [result.passes[name].step_s for result in pair.new if name in result.passes]
            if old and recent:
                doubted = any(result.quality for result in (*pair.base, *pair.new))
                noise = DOUBTED_RUN_NOISE if doubted else RUN_NOISE
                disturbed = any(_disturbed(side, name) for side in (pair.base, pair.new))
                level = max(sweep_noise, DISTURBED_SWEEP_NOISE) if disturbed else sweep_noise
                ratio = ratio_interval(old, recent, seed, SWEEPS_APART, noise, level)
                found.append(
                    Comparison(
                        pair=pair,
                        pass_name=name,
                        base_s=_typical(old),
                        new_s=_typical(recent),
                        runs=(len(old), len(recent)),
                        ratio=ratio,
                        verdict=judge(ratio, threshold),
                    )
                )
    return found


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


def lost(pairs: Iterable[Pair]) -> list[tuple[Pair, str]]:
    """Pairs of which the base side measured what a run of the new side did not, with what became of that, in words."""
    found = []
    for pair in pairs:
        measured = {name for result in pair.base for name in result.passes}
        short = [result for result in pair.new if measured - result.passes.keys()]
        if short:
            runs = f" in {len(short)} of {len(pair.new)} runs" if len(pair.new) > 1 else ""
            without = sorted(measured - short[0].passes.keys())
            passes = f", without {' and '.join(without)}" if short[0].passes else ""
            found.append((pair, f"{short[0].status}{runs}{passes}"))
    return found


def differing_fields(base: Sequence[Result], new: Sequence[Result]) -> list[str]:
    """What was asked for otherwise in every trial of the two sides: why nothing pairs."""
    old = [_point(result.trial).to_json() for result in base]
    recent = [_point(result.trial).to_json() for result in new]
    return [
        key
        for key in (old[0] if old else {})
        if not {json.dumps(trial[key], sort_keys=True) for trial in old}
        & {json.dumps(trial[key], sort_keys=True) for trial in recent}
    ]


def _disturbed(side: Sequence[Result], name: Pass) -> bool:
    """Whether at least half of a side's runs say that something else had a hand in their steps."""
    seen = [any(reason.startswith(_DISTURBANCES) for reason in doubts_of(result, name)) for result in side]
    return 2 * sum(seen) >= len(seen)


def _by_host(pair: Pair) -> list[Pair]:
    """The pair itself, or one for each host that both sides ran on, where a side ran on several."""
    old, recent = ({host_name(result) for result in side if result.host} for side in (pair.base, pair.new))
    if len(old) < 2 and len(recent) < 2:
        return [pair]
    return [
        Pair(
            name=f"{pair.name} on {name}",
            base=tuple(result for result in pair.base if host_name(result) == name),
            new=tuple(result for result in pair.new if host_name(result) == name),
        )
        for name in sorted(old & recent)
    ] or [pair]


def _point(trial: Trial) -> Trial:
    return replace(trial, repeat=0, timeout_s=None, profile=False)


def _by_point(results: Iterable[Result]) -> dict[str, list[Result]]:
    points: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        points[_point(result.trial).trial_id].append(result)
    return points


def _by_rest(points: Mapping[str, Sequence[Result]], wanted: Iterable[str]) -> dict[str, list[str]]:
    """The wanted points by everything but their device."""
    rest: dict[str, list[str]] = defaultdict(list)
    for point in wanted:
        rest[replace(_point(points[point][0].trial), device=Device()).trial_id].append(point)
    return rest


def _device(results: Sequence[Result]) -> str:
    return results[0].trial.device.label


def _facts(results: Iterable[Result]) -> dict[str, set[str]]:
    """The values of each fact that matters; of the cores, their number, since which ones it were is chance."""
    facts: dict[str, set[str]] = defaultdict(set)
    for result in results:
        for key, text in flatten(result.host).items():
            if key == "cores":
                facts["number of cores"].add(str(text.count(",") + 1))
            elif key not in _IGNORED_FACTS and not key.startswith(_DRIVER_FACTS):
                facts[key].add(text)
    return facts


def _typical(runs: Iterable[Sequence[float]]) -> float:
    return math.exp(fmean(math.log(median(run)) for run in runs))
