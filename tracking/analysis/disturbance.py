"""Selects the runs that a comparison rests on: disturbed ones are left aside, or their evidence bounds their error.

docs/compare.md has the rules and how well they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tracking.analysis.doubts import doubts_of
from tracking.analysis.stats.steps import drift, median_interval
from tracking.record import Pass, Result
from tracking.schema.measurement import Measurement

FEWEST_SOUND = 2
"""Undisturbed runs of a side with which the disturbed ones are left aside; a single one shows no spread."""
UNKNOWN_SLOWDOWN = 2.0
"""How many times as long a disturbed step may have taken where there is no evidence."""
SWAPPING_SLOWDOWN = 10.0
"""The same while the machine swapped: a page costs a thousand times what an access to memory does."""
FAIR_SHARE = 0.5
"""The most of a core that one competing thread gets from a fair scheduler."""
MOST_TAKEN = 0.9
"""Share of the cores that others are assumed to take at most, so that there is a bound."""
NEIGHBOUR_COST = 0.05
"""Share by which a busy core beside each of the trial's own lengthens a step: twice what was measured."""
DOUBTED_RUN_NOISE = 0.2
"""Least spread, as a share, assumed of a side's only run where the reason to doubt it has no size."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one side of a comparison rests on."""

    runs: tuple[Sequence[float], ...]
    """Seconds of each step, one sequence per run that counts."""
    left_aside: tuple[str, ...]
    """Why runs were left aside: for each such run its kinds of reasons, e.g. `contention and swapping`."""
    doubts: tuple[str, ...]
    """The same kinds of reasons for each doubted run that counts."""
    lengthened: float
    """Largest factor by which disturbances may have lengthened the side's typical step; 1: undisturbed."""
    shortened: float
    """Factor by which the typical step may be too short because work is missing; 1, or infinity."""
    lone_noise: float
    """Relative standard deviation assumed of the side's only run because of its doubts; 0 with several runs."""
    disturbed: bool
    """Whether any run was disturbed, whether it counts or not."""


def side_of(results: Sequence[Result], pass_name: Pass) -> Side:
    """The runs of one pass that count, and how wrong they may be. Results without the pass are ignored.

    Where at least `FEWEST_SOUND` runs were undisturbed, the others are left aside. Where fewer were, all count, and
    the logarithm of the side's figure may be off by the mean of what each run's may be off by.
    """
    runs = [(result, _kinds(result, pass_name)) for result in results if pass_name in result.passes]
    sound = [(result, kinds) for result, kinds in runs if not kinds & _UNSOUND]
    counting = sound if len(sound) >= FEWEST_SOUND else runs
    aside = [kinds for _, kinds in runs if kinds & _UNSOUND] if counting is sound else []
    slowdowns = [_slowdown(result, pass_name, kinds) for result, kinds in counting]
    return Side(
        runs=tuple(result.passes[pass_name].step_s for result, _ in counting),
        left_aside=tuple(" and ".join(sorted(kinds & _UNSOUND)) for kinds in aside),
        doubts=tuple(" and ".join(sorted(kinds)) for _, kinds in counting if kinds),
        lengthened=math.exp(fmean(map(math.log, slowdowns))) if slowdowns else 1.0,
        shortened=math.inf if any(kinds & _LESS_WORK for _, kinds in counting) else 1.0,
        lone_noise=_lone_noise(counting[0][0].passes[pass_name], counting[0][1]) if len(counting) == 1 else 0.0,
        disturbed=len(sound) < len(runs),
    )


def _kinds(result: Result, pass_name: Pass) -> frozenset[str]:
    """The kinds of reasons to doubt a pass: what is before the colon, e.g. `contention` or `too few steps`."""
    return frozenset(
        reason.partition(":")[0]
        for reason in doubts_of(result, pass_name)
        # Repeats are compared host by host. A rate above a peak that was itself measured beside others says nothing
        # about the work.
        if not reason.startswith("hosts") and "while others had" not in reason
    )


def _slowdown(result: Result, pass_name: Pass, kinds: frozenset[str]) -> float:
    """The largest factor by which disturbances may have lengthened a run's steps."""
    evidence, cores = result.passes[pass_name].evidence, _cores(result)
    rules = {rule for kind, rule in _SLOWDOWNS.items() if kind in kinds}  # two kinds may be one cause
    return math.prod(rule(evidence, cores) for rule in rules)


def _cores(result: Result) -> int:
    """How many cores the trial had; 0 where its record has no such fact."""
    cores = result.host.get("cores", ())
    return cores.count(",") + 1 if isinstance(cores, str) else len(cores)  # MLflow keeps the list as text


def _by_contention(evidence: Mapping[str, float], cores: int) -> float:
    """1 / (1 - s), were a step's work divided anew among the cores as others take the share s of them.

    Threads that wait for the slowest one are slowed down by what was taken of that one's core: all that others had may
    have been there, up to the share that one competitor gets.
    """
    if "others_share" not in evidence or not cores:
        return UNKNOWN_SLOWDOWN
    share = evidence["others_share"] + evidence.get("steal_share", 0.0)
    return 1 / (1 - max(min(share, MOST_TAKEN), min(cores * share, FAIR_SHARE)))


def _by_neighbours(evidence: Mapping[str, float], cores: int) -> float:
    if "others_cores" not in evidence or not cores:
        return UNKNOWN_SLOWDOWN
    return 1 + NEIGHBOUR_COST * evidence["others_cores"] / cores


def _by_frequency(evidence: Mapping[str, float], _cores: int) -> float:
    """Against the higher of both clocks, whichever way it went."""
    clocks = evidence.get("mhz_before", 0.0), evidence.get("mhz_after", 0.0)
    return max(clocks) / min(clocks) if min(clocks) > 0 else UNKNOWN_SLOWDOWN


def _by_gpu_clock(evidence: Mapping[str, float], _cores: int) -> float:
    """By how much the clock fell; under its power limit, a card is simply as fast as it is for this work."""
    clocks = evidence.get("gpu_sm_mhz_before", 0.0), evidence.get("gpu_sm_mhz_min", 0.0)
    reasons = {key for key in evidence if key.startswith("gpu_throttled_") and evidence[key]}
    known = min(clocks) > 0 and reasons <= {"gpu_throttled_power_limit"}
    return max(clocks) / min(clocks) if known else UNKNOWN_SLOWDOWN


def _by_foreign_processes(evidence: Mapping[str, float], _cores: int) -> float:
    return 1 + max(1.0, evidence.get("gpu_foreign_processes", 1.0))


def _change(measured: Measurement) -> float:
    return abs(drift(measured.step_s).change)


def _half_width(measured: Measurement) -> float:
    low, high = median_interval(measured.step_s)
    return (high - low) / 2 / measured.median_s


def _by_swapping(_evidence: Mapping[str, float], _cores: int) -> float:
    return SWAPPING_SLOWDOWN


def _unknown(_evidence: Mapping[str, float], _cores: int) -> float:
    return UNKNOWN_SLOWDOWN


_SLOWDOWNS: Mapping[str, Callable[[Mapping[str, float], int], float]] = {
    "contention": _by_contention,
    "neighbours": _by_neighbours,
    "swapping": _by_swapping,
    "throttling": _unknown,
    "quota": _unknown,
    "throttled": _by_gpu_clock,
    "clock": _by_gpu_clock,
    "frequency": _by_frequency,
    "foreign": _by_foreign_processes,
    "too short to tell": _unknown,
}
"""By kind of disturbance, the factor by which it can have lengthened a step, from evidence and number of cores."""
_LESS_WORK = frozenset({"work", "above peak"})
"""Kinds of reasons that mean that not all of the work was done."""
_UNSOUND = _LESS_WORK | _SLOWDOWNS.keys()
_SIZES: Mapping[str, Callable[[Measurement], float]] = {"drift": _change, "imprecise": _half_width}
"""By kind of doubt, how far a run's typical step may be off, as a share."""


def _lone_noise(measured: Measurement, kinds: frozenset[str]) -> float:
    """How far a side's only run may be off, as a share, for reasons that no repeat can confirm or refute."""
    doubts = kinds - _UNSOUND
    return max((_SIZES[kind](measured) if kind in _SIZES else DOUBTED_RUN_NOISE for kind in doubts), default=0.0)
