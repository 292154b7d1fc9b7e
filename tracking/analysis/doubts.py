"""Whether a trial's figures deserve belief: `good`, or the reasons why not.

Each rule reads what was measured and what the kernel said meanwhile; none drops or mends a figure. `docs/verdicts.md`
explains every word to users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tracking.analysis.stats.steps import dependence, drift, median_precision
from tracking.axes import point_of
from tracking.names import host_name
from tracking.record import Pass, Result
from tracking.schema.measurement import Measurement

OTHERS_SHARE = 0.04
"""Share of the trial's cores that others may use. Ray's processes, which give way to the trial, take 1 to 2% of two
cores, and those of an idle system another half percent."""
CALIBRATION_SHARE = 0.15
"""The same during a calibration, whose best runs count: above this, even those may have been disturbed."""
SHORTEST_S = 0.3
"""Timed seconds after which even counters in ticks of 10 ms show whether others used the cores."""
TICKS_BLUR_S = 0.02
"""Seconds of a core's time that the kernel's ticks may miss; records without a `blind_share` rest on ticks."""
BLIND_SHARE = 0.1
"""Share of the cores that others may have used unseen; above it, the timing was too short to tell."""
NEIGHBOURS = 0.25
"""Busy cores beside the trial's own above which shared caches, memory and clocks make a difference."""
STEAL_SHARE = 0.02
FREQUENCY_CHANGE = 0.05
FEWEST_STEPS = 6
"""With fewer steps, no interval of the median has 95% confidence."""
WIDEST = 0.05
"""Half width of the median's interval, as a share of the median, above which the median counts as unknown."""
LEAST_WORK = 0.95
"""Share of the products in the layer table below which the work was not all done."""
MOST_SKIPPED = 0.01
"""Share of the steps above which skipped updates make a difference."""
ABOVE_PEAK = 1.05
"""Rate over that of the calibration's matrix product, above which some of the work was not done."""
ABOVE_PEAK_OF_ALL_WORK = 2.25
"""The same where the graph shows that all of it was: Winograd's convolutions save that many multiplications at most
(Lavin and Gray, 2016), and the calibration may have met a slow moment of the machine."""
THROTTLES = {
    "power_limit": "by its power limit",
    "hardware": "by the hardware",
    "temperature": "by temperature",
    "hardware_temperature": "by the hardware's temperature",
    "power_brake": "by the power brake",
}
"""Why a GPU's clock was lower than requested, by its name in the evidence."""


def judged(result: Result) -> Result:
    """The result with the reasons to doubt its figures added to `quality`, after those of its worker."""
    reasons = tuple(
        f"{reason} ({name})" for name, measured in result.passes.items() for reason in _reasons(measured, result.limits)
    )
    return replace(result, quality=tuple(dict.fromkeys((*result.quality, *reasons))))


class Hosts:
    """The host of each trial's first repeat: a spread between machines is not the trial's own."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def judge(self, result: Result) -> Result:
        """The result, with a doubt where an earlier repeat of its trial was measured on another host."""
        if not result.passes or not result.host:
            return result
        here = host_name(result)
        first = self._first.setdefault(point_of(result.trial).trial_id, here)
        if first == here:
            return result
        reasons = (f"hosts: an earlier repeat ran on {first}, this one on {here} ({name})" for name in result.passes)
        return replace(result, quality=(*result.quality, *reasons))


def verdict(result: Result) -> str:
    """`good`, the reasons against it, or nothing for a trial without figures."""
    return "; ".join(result.quality) or ("good" if result.passes else "")


def doubts_of(result: Result, pass_name: Pass) -> list[str]:
    """The reasons that concern one pass, without its name."""
    ending = f" ({pass_name})"
    return [reason.removesuffix(ending) for reason in result.quality if reason.endswith(ending)]


def _gpu_reasons(evidence: Mapping[str, float]) -> Iterator[str]:
    """Reasons from the GPUs' own library, read between steps."""
    for reason, words in THROTTLES.items():
        if share := evidence.get(f"gpu_throttled_{reason}"):
            yield f"throttled: {words} in {share:.0%} of looks"
    if others := evidence.get("gpu_foreign_processes"):
        yield f"foreign: {others:.0f} other process{'es' * (others != 1)} on the GPU"
    if "gpu_sm_mhz_before" in evidence:
        before, lowest = evidence["gpu_sm_mhz_before"], evidence["gpu_sm_mhz_min"]
        if lowest < (1 - FREQUENCY_CHANGE) * before:
            yield f"clock: the GPU fell from {before:.0f} to {lowest:.0f} MHz"


def step_reasons(steps: Sequence[float]) -> Iterator[str]:
    """Why the median of these steps is not what a step takes; an adaptive protocol then measures longer."""
    trend = drift(steps)
    if trend.matters:
        yield f"drift: {trend.change:+.0%} over the run"
    if len(steps) < FEWEST_STEPS:
        yield f"too few steps: {len(steps)}"
    elif (half := median_precision(steps)) > WIDEST:
        alike = dependence(steps)
        why = f", neighbouring steps being alike (autocorrelation {alike:.2f})" if alike else ""
        yield f"imprecise: median known to ±{half:.0%}{why}"


def _core_reasons(evidence: Mapping[str, float]) -> Iterator[str]:
    """Reasons from other processes on the trial's cores or beside them, or from a time too short to tell."""
    if "others_share" not in evidence:
        return
    if evidence["others_share"] > OTHERS_SHARE:
        yield f"contention: others had {evidence['others_share']:.0%} of the cores"
    elif evidence["others_cores"] > NEIGHBOURS:
        yield f"neighbours: others kept {evidence['others_cores']:.1f} cores of the machine busy"
    elif (blind := evidence.get("blind_share", TICKS_BLUR_S / evidence["wall_s"])) > BLIND_SHARE:
        unseen = f"others may have had {min(1.0, blind):.0%} of the cores unseen"
        yield f"too short to tell: in {evidence['wall_s'] * 1000:.3g} ms {unseen}"
    if evidence["steal_share"] > STEAL_SHARE:
        yield f"contention: the hypervisor took {evidence['steal_share']:.0%} of the cores"


def _work_reasons(evidence: Mapping[str, float]) -> Iterator[str]:
    """Reasons from the first call's graph and result and, for a training step, from the weights after the last one."""
    if (share := evidence.get("work_share", 1.0)) < LEAST_WORK:
        yield f"work: {share:.0%} of the layers' products are computed; the rest is pruned, merged or folded away"
    if tensors := evidence.get("nonfinite_outputs", 0):
        yield f"not finite: {tensors:.0f} of the step's results hold{'s' * (tensors == 1)} nan or infinity"
    if weights := evidence.get("nonfinite_weights", 0):
        yield f"not finite: {weights:.0f} of the weights hold{'s' * (weights == 1)} nan or infinity after the last step"
    elif evidence.get("nonfinite_loss", 0):
        yield "not finite: the loss, or a metric, became nan or infinite in one of the steps"
    if (skipped := evidence.get("skipped_updates", 0.0)) > MOST_SKIPPED:
        yield f"skipped: {skipped:.0%} of the steps made no update, as their scaled gradients overflowed"


def _reasons(measured: Measurement, limits: Mapping[str, float]) -> Iterator[str]:
    evidence = measured.evidence
    yield from _core_reasons(evidence)
    if stops := evidence.get("quota_stops"):
        periods = evidence["quota_periods"]
        yield f"quota: the kernel stopped the process in {stops:.0f} of {periods:.0f} periods"
    if evidence.get("swapped_pages", 0) > 0:
        yield f"swapping: {evidence['swapped_pages']:.0f} pages"
    if evidence.get("throttles", 0) > 0:
        yield f"throttling: {evidence['throttles']:.0f} times"
    if "mhz_before" in evidence:
        change = evidence["mhz_after"] / evidence["mhz_before"] - 1
        if abs(change) > FREQUENCY_CHANGE:
            yield f"frequency: {change:+.0%} over the run"
    yield from _gpu_reasons(evidence)
    yield from _work_reasons(evidence)
    yield from step_reasons(measured.step_s)
    yield from _peak_reasons(measured, limits)


def _peak_reasons(measured: Measurement, limits: Mapping[str, float]) -> Iterator[str]:
    """A rate that the device cannot reach with all of the work done."""
    peak, rate = limits.get("peak_gflops_per_s"), measured.gflops_per_s
    all_done = measured.evidence.get("work_share", 0.0) >= LEAST_WORK
    if not peak or not rate or rate <= (ABOVE_PEAK_OF_ALL_WORK if all_done else ABOVE_PEAK) * peak:
        return
    if (others := limits.get("others_share", 0.0)) > CALIBRATION_SHARE:
        yield f"above peak: {rate / peak:.0%} of what the device did while others had {others:.0%} of its cores"
    else:
        yield f"above peak: {rate / peak:.0%} of what the device can do; some of the work was not done"
