"""The limits of each device at each precision of a sweep, measured once, before its trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from sweeps.dispatch import Context
from tracking.quality import judged
from tracking.record import Result, Trial

Run = Callable[[Sequence[Trial], Context], Iterator[Result]]


class Calibration:
    """What the devices can do, by the calibration that a trial's device and precision ask for."""

    def __init__(self) -> None:
        self._limits: dict[str, Mapping[str, float]] = {}

    def measure(self, trials: Sequence[Trial], run: Run, context: Context) -> list[str]:
        """Measure what is not known yet; gives a sentence for each device that could not be calibrated."""
        wanted = {(calibration := _calibration(trial)).trial_id: calibration for trial in trials}
        missing = [calibration for trial_id, calibration in wanted.items() if trial_id not in self._limits]
        failures = []
        for result in run(missing, context):
            self._limits[result.trial_id] = result.limits
            if result.error is not None:
                what = f"{result.trial.device.label} at {result.trial.precision}"
                failures.append(f"{what} could not be calibrated: {result.error.kind}: {result.error.message}")
        return failures

    def judge(self, result: Result) -> Result:
        """The result with its device's limits and the verdict on its figures."""
        return judged(replace(result, limits=self._limits.get(_calibration(result.trial).trial_id, {})))


def _calibration(trial: Trial) -> Trial:
    return Trial(
        model="calibration",
        batch=1,
        device=replace(trial.device, memory_mb=None),  # a limit of the trial's, not of the device's
        precision=trial.precision,
        passes=(),
        task="calibrate",
        timeout_s=trial.timeout_s,
    )
