from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps import dispatch
from sweeps.calibration import Calibration
from sweeps.cores import available
from sweeps.devices import Node
from tracking.record import Classic, Measurement, Result, Trial

TINY = Trial(model="tiny", batch=1, passes=("forward",), protocol=Classic(burn_in=1, steps=6))


@pytest.fixture
def context(server: str, tmp_path: Path) -> dispatch.Context:
    return dispatch.Context(sweep_id="s", folder=tmp_path, server=lambda: server, node=Node(cpus=len(available())))


def test_each_device_and_precision_is_measured_once(context: dispatch.Context) -> None:
    asked: list[Trial] = []

    def run(trials: list[Trial], context: dispatch.Context) -> list[Result]:
        asked.extend(trials)
        return list(dispatch.inline(trials, context))

    calibration = Calibration()
    trials = [TINY, replace(TINY, batch=2), replace(TINY, precision="bfloat16")]
    assert calibration.measure(trials, run, context) == []  # type: ignore[arg-type]
    assert [trial.precision for trial in asked] == ["float32", "bfloat16"]
    assert calibration.measure(trials, run, context) == []  # type: ignore[arg-type]
    assert len(asked) == 2
    (result,) = dispatch.inline([TINY], context)
    limits = calibration.judge(result).limits
    assert 1 < limits["peak_gflops_per_s"] < 1e6
    assert 0.1 < limits["copy_gb_per_s"] < 1e5


def test_work_that_was_not_done_is_caught(context: dispatch.Context) -> None:
    """A pass whose output TensorFlow prunes takes no time: its rate is above anything the device can do."""
    calibration = Calibration()
    calibration.measure([TINY], dispatch.inline, context)
    (result,) = dispatch.inline([replace(TINY, model="pruned", target="tests.models.pruned")], context)
    assert result.status == "ok", result.error
    assert any(doubt.startswith("above peak") for doubt in calibration.judge(result).quality)


def test_a_device_that_cannot_be_calibrated_is_told_and_its_trials_run(context: dispatch.Context) -> None:
    calibration = Calibration()
    (sentence,) = calibration.measure([replace(TINY, timeout_s=0.001)], dispatch.inline, context)
    assert "could not be calibrated: Timeout" in sentence
    measurement = Measurement(first_call_s=1.0, warmup_s=(), step_s=(1.0,) * 9, stopped="steps")
    result = Result(trial=TINY, sweep_id="s", status="ok", passes={"forward": measurement})
    assert calibration.judge(result).quality == ()
