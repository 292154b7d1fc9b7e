"""The limits of each device at each precision, measured once on every node, before its first trial there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from tracking.analysis.doubts import judged
from tracking.record import Result, Trial


class Calibration:
    """The measured limits of each node's devices, by the calibration that a trial's device and precision need."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str], Mapping[str, float]] = {}
        self._lost: Counter[tuple[str, str]] = Counter()
        self._ids: dict[tuple[str, str], str] = {}

    def needed(self, trial: Trial) -> str | None:
        """Return the id of the calibration that has to precede the trial on a node; None: none."""
        return self._id(trial) if trial.task == "benchmark" else None

    def is_done(self, calibration_id: str, node_id: str) -> bool:
        """Return whether that calibration has been done on the node."""
        return (node_id, calibration_id) in self._limits

    def preceding(self, trial: Trial, node_id: str) -> Trial | None:
        """Return the calibration that still has to precede the trial on that node; None: none."""
        needed = self.needed(trial)
        return None if needed is None or self.is_done(needed, node_id) else _calibration(trial)

    def lost(self, result: Result, node_id: str) -> int:
        """Count a calibration lost through no fault of its own, and return how often it has been lost on that node."""
        self._lost[node_id, result.trial_id] += 1
        return self._lost[node_id, result.trial_id]

    def note(self, result: Result, node_id: str) -> str | None:
        """Keep a calibration's limits, and return a sentence for the user if it failed."""
        self._limits[node_id, result.trial_id] = result.limits
        if result.error is None:
            return None
        device = f"{result.trial.device.label} at {result.trial.precision}"
        return f"{device} could not be calibrated: {result.error.kind}: {result.error.message}"

    def judge(self, result: Result) -> Result:
        """Return the result with the limits of its device where it ran, and the verdict on its figures."""
        where = result.host.get("node_id", "")
        return judged(replace(result, limits=self._limits.get((where, self._id(result.trial)), {})))

    def _id(self, trial: Trial) -> str:
        alike = (repr(trial.device), trial.precision)
        if alike not in self._ids:
            self._ids[alike] = _calibration(trial).trial_id
        return self._ids[alike]


def _calibration(trial: Trial) -> Trial:
    # The trial's own limits are not the device's, and what runs beside the trial does not change what it can do.
    device = replace(trial.device, memory_mb=None, gpu_memory_mb=None, exclusive_node=False)
    return Trial(
        model="calibration",
        batch=1,
        device=device,
        precision=trial.precision,
        passes=(),
        task="calibrate",
        timeout_s=trial.timeout_s,
    )
