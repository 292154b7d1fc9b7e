from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from tests.support.records import make_result
from tracking.analysis.doubts import Hosts, judged, verdict
from tracking.record import Result
from tracking.schema.measurement import Measurement

QUIET = {
    "wall_s": 3.0,
    "others_share": 0.004,
    "others_cores": 0.01,
    "blind_share": 0.0001,
    "steal_share": 0.0,
    "swapped_pages": 0.0,
    "major_faults": 0.0,
}


def measured(step_s: tuple[float, ...] | None = None, flops: int | None = None, **evidence: float) -> Result:
    """A result of one pass with these steps and this evidence."""
    result = make_result(noise=0.01, steps=40, passes=("forward",))
    forward: Measurement = replace(result.passes["forward"], evidence=QUIET | evidence, flops=flops)
    if step_s is not None:
        forward = replace(forward, step_s=step_s)
    return replace(result, passes={"forward": forward}, limits={"peak_gflops_per_s": 100.0})


WANDERING = tuple(1 + 0.1 * math.sin(i / 5) for i in range(100))
"""Slow waves and no trend: each step is like the one before it."""


def test_a_quiet_trial_is_good() -> None:
    result = judged(measured())
    assert result.quality == ()
    assert verdict(result) == "good"


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (measured(others_share=0.2), "contention: others had 20% of the cores (forward)"),
        (measured(others_cores=1.02), "neighbours: others kept 1.0 cores of the machine busy (forward)"),
        (
            measured(wall_s=0.045, blind_share=0.4),
            "too short to tell: in 45 ms others may have had 40% of the cores unseen (forward)",
        ),
        (measured(wall_s=0.005, blind_share=4.0), "too short to tell: in 5 ms others may have had 100% of the cores"),
        (measured(steal_share=0.1), "contention: the hypervisor took 10% of the cores (forward)"),
        (measured(quota_stops=53.0, quota_periods=270.0), "quota: the kernel stopped the process in 53 of 270 periods"),
        (measured(swapped_pages=12.0), "swapping: 12 pages (forward)"),
        (measured(throttles=3.0), "throttling: 3 times (forward)"),
        (measured(mhz_before=3000.0, mhz_after=2400.0), "frequency: -20% over the run (forward)"),
        (measured(step_s=tuple(1 + 0.01 * i for i in range(40))), "drift: +33% over the run (forward)"),
        (measured(step_s=(1.0, 1.01, 1.0)), "too few steps: 3 (forward)"),
        (measured(step_s=(1.0, 3.0) * 5), "imprecise: median known to ±50% (forward)"),
        (measured(step_s=WANDERING), "imprecise: median known to ±19%, neighbouring steps being alike"),
        (measured(step_s=(0.1,) * 20, flops=20 * 10**9), "above peak: 200% of what the device can do"),
    ],
)
def test_each_doubt_is_explained(result: Result, reason: str) -> None:
    doubts = judged(result).quality
    assert any(doubt.startswith(reason) for doubt in doubts), doubts
    assert verdict(judged(result)) != "good"


def test_a_short_look_is_judged_by_what_it_saw() -> None:
    short = {"wall_s": 0.02, "blind_share": 0.01}
    assert judged(measured(**short)).quality == ()
    assert judged(measured(**short, others_share=0.5)).quality == ("contention: others had 50% of the cores (forward)",)


def test_records_from_before_rest_on_ticks() -> None:
    def before(wall_s: float) -> Result:
        result = measured(wall_s=wall_s)
        forward = result.passes["forward"]
        evidence = {key: value for key, value in forward.evidence.items() if key != "blind_share"}
        return judged(replace(result, passes={"forward": replace(forward, evidence=evidence)}))

    assert before(0.3).quality == ()
    assert before(0.1).quality == (
        "too short to tell: in 100 ms others may have had 20% of the cores unseen (forward)",
    )


def test_a_trial_without_figures_has_no_verdict() -> None:
    assert verdict(judged(make_result(status="crashed"))) == ""


def test_a_repeat_on_another_host_is_doubted() -> None:
    hosts = Hosts()
    here, there = {"hostname": "a", "node_ip": "10.0.0.1"}, {"hostname": "b", "node_ip": "10.0.0.2"}
    first, other = make_result(host=here), make_result(host=there, repeat=1)
    assert hosts.judge(first).quality == ()
    assert hosts.judge(make_result(host=here, repeat=2)).quality == ()
    assert hosts.judge(other).quality == (
        "hosts: an earlier repeat ran on a (10.0.0.1), this one on b (10.0.0.2) (forward)",
        "hosts: an earlier repeat ran on a (10.0.0.1), this one on b (10.0.0.2) (forward_backward)",
    )
    assert hosts.judge(make_result(host=there, batch=64)).quality == ()
    assert hosts.judge(make_result(host=there, status="crashed", repeat=3)).quality == ()


def test_the_same_steps_in_no_order_are_precise() -> None:
    shuffled = tuple(random.Random(0).sample(WANDERING, 100))
    assert judged(measured(step_s=shuffled)).quality == ()


def test_a_rate_above_the_calibrations_is_believed_where_the_graph_shows_all_the_work() -> None:
    def at(rate: int, **evidence: float) -> tuple[str, ...]:
        return judged(measured(step_s=(0.1,) * 20, flops=rate * 10**8, **evidence)).quality

    assert at(104) == at(130, work_share=1.0) == at(220, work_share=1.0) == ()
    assert at(130)[0].startswith("above peak: 130% of what the device can do")
    (doubt,) = at(230, work_share=1.0)
    assert doubt.startswith("above peak: 230% of what the device can do")


def test_a_disturbed_calibration_accuses_nobody_of_work_not_done() -> None:
    result = measured(step_s=(0.1,) * 20, flops=20 * 10**9)
    (doubt,) = judged(replace(result, limits=result.limits | {"others_share": 0.4})).quality
    assert doubt == "above peak: 200% of what the device did while others had 40% of its cores (forward)"


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"work_share": 0.5}, "work: 50% of the layers' products are computed"),
        ({"nonfinite_outputs": 1.0}, "not finite: 1 of the step's results holds nan or infinity"),
        ({"nonfinite_outputs": 2.0}, "not finite: 2 of the step's results hold nan"),
        ({"nonfinite_weights": 3.0, "nonfinite_loss": 1.0}, "not finite: 3 of the weights hold nan or infinity after"),
        ({"nonfinite_loss": 1.0}, "not finite: the loss, or a metric, became nan or infinite"),
        ({"skipped_updates": 0.25}, "skipped: 25% of the steps made no update, as their scaled gradients overflowed"),
    ],
)
def test_work_that_was_not_done_is_doubted(evidence: dict[str, float], words: str) -> None:
    (reason,) = judged(measured(**evidence)).quality
    assert reason.startswith(words)
    assert judged(measured(work_share=0.96, nonfinite_outputs=0.0, skipped_updates=0.01)).quality == ()
