"""The highest rate that each device is known to reach: its calibration's or, where a trial did better, that trial's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tracking.analysis.doubts import doubts_of
from tracking.axes import peak_of
from tracking.names import host_name, trial_names
from tracking.record import Pass, Result
from tracking.schema.axis import Label

_Key = tuple[str, tuple[Label, ...], float]
_NOT_A_RATE = ("above peak", "work")
"""Doubts of a pass that did not do all of its operations, so that its rate means nothing."""


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The highest rate of one device at one precision, in GFLOP/s."""

    gflops_per_s: float
    calibrated: float
    """What the calibration's matrix product reached: the same, or less."""
    where: str
    """The device and whatever else a peak depends on, e.g. `cpu float32`."""
    trial_id: str = ""
    """The trial that did better than the calibration; empty: none did."""
    pass_name: Pass | None = None


class Peaks:
    """The peak of each result's device, separately per precision and calibration."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._peaks: dict[_Key, Peak] = {}
        for result in results:
            if (key := _key(result)) is None:
                continue
            where = " ".join(map(str, peak_of(result.trial)))
            best = self._peaks.setdefault(key, Peak(gflops_per_s=key[-1], calibrated=key[-1], where=where))
            for name, measured in result.passes.items():
                rate = measured.gflops_per_s
                if rate is None or any(doubt.startswith(_NOT_A_RATE) for doubt in doubts_of(result, name)):
                    continue
                if rate > best.gflops_per_s:
                    best = self._peaks[key] = Peak(
                        gflops_per_s=rate, calibrated=key[-1], where=where, trial_id=result.trial_id, pass_name=name
                    )

    def of(self, result: Result) -> Peak | None:
        """The peak of the device that the result was measured on; None where it was not calibrated."""
        key = _key(result)
        return None if key is None else self._peaks[key]

    def exceeded(self) -> list[Peak]:
        """The peaks that a trial raised above the calibration's."""
        return [peak for peak in self._peaks.values() if peak.trial_id]


def exceeded_sentences(results: Iterable[Result]) -> list[str]:
    """A sentence for each device that exceeded its calibration."""
    results = list(results)
    names = trial_names([result.trial for result in results])
    return [
        f"{peak.where}: {names[peak.trial_id]} did {peak.gflops_per_s:,.0f} GFLOP/s ({peak.pass_name}), more than the "
        f"calibration's matrix product ({peak.calibrated:,.0f}), and counts as the device's peak."
        for peak in Peaks(results).exceeded()
    ]


def _key(result: Result) -> _Key | None:
    calibrated = result.limits.get("peak_gflops_per_s")
    if not calibrated:
        return None
    return host_name(result), peak_of(result.trial), calibrated
