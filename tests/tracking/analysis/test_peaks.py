from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.records import make_result
from tracking.analysis.peaks import Peaks, exceeded_sentences
from tracking.record import Result


def reaching(gflops_per_s: float, batch: int = 4, calibrated: float = 469.0, **fields: object) -> Result:
    """A result whose forward pass did operations at this rate."""
    result = make_result(batch=batch, passes=("forward",), **fields)  # type: ignore[arg-type]
    forward = result.passes["forward"]
    forward = replace(forward, flops=round(gflops_per_s * 1e9 * forward.median_s))
    return replace(result, passes={"forward": forward}, limits={"peak_gflops_per_s": calibrated, "copy_gb_per_s": 12.0})


def test_what_a_trial_reached_is_a_lower_bound_of_the_peak() -> None:
    slow, fast = reaching(300), reaching(481, batch=8)
    peak = Peaks([slow, fast]).of(slow)
    assert peak is not None
    assert peak.gflops_per_s == pytest.approx(481)
    assert (peak.calibrated, peak.trial_id, peak.pass_name) == (469.0, fast.trial_id, "forward")
    (sentence,) = exceeded_sentences([slow, fast])
    assert sentence.startswith("cpu float32: vgg16 b=8 did 481 GFLOP/s (forward), more than the calibration's")


def test_without_such_a_trial_the_calibration_is_the_peak() -> None:
    result = reaching(468)
    peak = Peaks([result]).of(result)
    assert peak is not None
    assert (peak.gflops_per_s, peak.trial_id) == (469.0, "")
    assert exceeded_sentences([result]) == []


@pytest.mark.parametrize("doubt", ["above peak: 200% of what the device can do (forward)", "work: half (forward)"])
def test_work_that_was_not_done_raises_no_peak(doubt: str) -> None:
    result = replace(reaching(900), quality=(doubt,))
    peak = Peaks([result]).of(result)
    assert peak is not None
    assert peak.gflops_per_s == 469.0


def test_each_device_precision_and_host_has_its_own() -> None:
    fast = reaching(481)
    others = [
        reaching(100, device="gpu"),
        reaching(100, precision="bfloat16"),
        reaching(100, host={"hostname": "node2", "cores": [0, 1]}),
    ]
    peaks = Peaks([fast, *others])
    assert [peak.gflops_per_s for other in others if (peak := peaks.of(other))] == [469.0] * 3


def test_an_uncalibrated_device_has_none() -> None:
    assert Peaks([]).of(replace(reaching(100), limits={})) is None
