from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.dispatch import loop
from sweeps.dispatch.calibration import Calibration
from sweeps.machine.cores import available
from sweeps.machine.node import Node
from tracking.record import Failure, Result, Trial
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement
from tracking.schema.protocols import Classic

TINY = Trial(model="tiny", batch=1, passes=("forward",), protocol=Classic(burn_in=1, steps=6))


@pytest.fixture
def context(server: str, tmp_path: Path) -> loop.Context:
    node = Node(cpus=len(available()))
    return loop.Context(
        sweep_id="s", folder=tmp_path, server=lambda: server, node=node, calibration=Calibration(), warn=pytest.fail
    )


def result(trial: Trial, node_id: str = "", limits: dict[str, float] | None = None) -> Result:
    quiet = {"others_share": 0.0, "others_cores": 0.0, "blind_share": 0.0, "steal_share": 0.0, "wall_s": 9.0}
    measurement = Measurement(first_call_s=1.0, warmup_s=(), step_s=(1.0,) * 9, stopped="steps", evidence=quiet)
    return Result(
        trial=trial,
        sweep_id="s",
        status="ok",
        host={"node_id": node_id} if node_id else {},
        passes={"forward": measurement},
        limits=limits or {},
    )


def test_each_device_and_precision_is_measured_once_before_its_first_trial(context: loop.Context) -> None:
    trials = [TINY, replace(TINY, batch=2), replace(TINY, precision="bfloat16")]
    calibration = context.calibration
    assert calibration is not None
    results = list(loop.inline(trials, context))
    assert [r.trial for r in results] == trials
    assert all(calibration.preceding(trial, "") is None for trial in trials)
    recorded = [calibration.judge(r).limits for r in results]
    assert recorded[0] == recorded[1] != recorded[2]
    for limits in recorded:
        assert 0 <= limits["others_share"] < 1
        assert 1 < limits["peak_gflops_per_s"] < 1e6
        assert 0.1 < limits["copy_gb_per_s"] < 1e5


def test_each_node_has_its_own_limits() -> None:
    calibration = Calibration()
    calibrating = calibration.preceding(TINY, "a")
    assert calibrating is not None
    assert calibration.note(result(calibrating, "a", {"peak_gflops_per_s": 1.0}), "a") is None
    assert calibration.preceding(TINY, "a") is None
    assert calibration.preceding(TINY, "b") == calibrating
    assert calibration.judge(result(TINY, "a")).limits == {"peak_gflops_per_s": 1.0}
    assert calibration.judge(result(TINY, "b")).limits == {}


def test_a_trials_own_limits_do_not_change_its_calibration() -> None:
    calibration = Calibration()
    limited = replace(TINY, device=Device(memory_mb=99, exclusive_node=True))
    assert calibration.preceding(limited, "") == calibration.preceding(TINY, "")
    assert calibration.preceding(replace(TINY, task="finetune"), "") is None


def test_a_calibration_that_was_lost_is_measured_again(context: loop.Context, tmp_path: Path) -> None:
    addresses = iter([str(tmp_path / "no_server"), context.server(), context.server()])
    (recorded,) = loop.inline([TINY], replace(context, server=lambda: next(addresses)))
    assert recorded.status == "ok", recorded.error
    assert context.calibration is not None
    assert context.calibration.judge(recorded).limits["peak_gflops_per_s"] > 1


def test_a_calibration_is_lost_only_as_often_as_a_trial(context: loop.Context, tmp_path: Path) -> None:
    nowhere, requests, warned = str(tmp_path / "no_server"), list[str](), list[str]()
    lost = replace(context, server=lambda: requests.append("") or nowhere, retries=2, warn=warned.append)
    (recorded,) = loop.inline([TINY], lost)
    assert recorded.status == "crashed"
    assert len(requests) == 3 + 3
    assert warned == ["cpu at float32 could not be calibrated: ForkServerLost: the fork server was lost"]


def test_pruned_work_is_caught(context: loop.Context) -> None:
    """A pass most of which TensorFlow prunes takes no time: its rate is above anything the device can do.

    What one core can do is given here, well above any there is: thirteen billion operations a step are 13 ms at least.
    """
    target = "tests.support.models.odd_graphs.mostly_pruned"
    pruned = replace(TINY, model="pruned", target=target, batch=64, passes=("forward",), device=Device(cpus=1))
    (recorded,) = loop.inline([pruned], replace(context, calibration=None))
    assert recorded.status == "ok", recorded.error
    calibration = Calibration()
    calibrating = calibration.preceding(pruned, "")
    assert calibrating is not None
    calibration.note(result(calibrating, limits={"peak_gflops_per_s": 1000.0}), "")
    doubts = " ".join(calibration.judge(recorded).quality)
    assert "above peak: " in doubts
    assert "work: 0% of the layers' products are computed" in doubts


def test_a_device_that_cannot_be_calibrated_is_reported_and_its_trials_run() -> None:
    calibration = Calibration()
    calibrating = calibration.preceding(TINY, "")
    assert calibrating is not None
    failed = replace(
        result(calibrating), status="timeout", passes={}, error=Failure(kind="Timeout", message="not done")
    )
    assert calibration.note(failed, "") == "cpu at float32 could not be calibrated: Timeout: not done"
    assert calibration.preceding(TINY, "") is None
    assert calibration.judge(result(TINY)).quality == ()
