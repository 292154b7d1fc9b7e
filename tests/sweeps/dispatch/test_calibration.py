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
    assert all(calibration.first(trial, "") is None for trial in trials)
    found = [calibration.judge(r).limits for r in results]
    assert found[0] == found[1] != found[2]
    for limits in found:
        assert 0 <= limits["others_share"] < 1
        assert 1 < limits["peak_gflops_per_s"] < 1e6
        assert 0.1 < limits["copy_gb_per_s"] < 1e5


def test_what_a_device_can_do_is_known_of_each_node_by_itself() -> None:
    calibration = Calibration()
    asked = calibration.first(TINY, "a")
    assert asked is not None
    assert calibration.note(result(asked, "a", {"peak_gflops_per_s": 1.0}), "a") is None
    assert calibration.first(TINY, "a") is None
    assert calibration.first(TINY, "b") == asked
    assert calibration.judge(result(TINY, "a")).limits == {"peak_gflops_per_s": 1.0}
    assert calibration.judge(result(TINY, "b")).limits == {}


def test_the_trials_own_limits_are_none_of_the_devices() -> None:
    calibration = Calibration()
    limited = replace(TINY, device=Device(memory_mb=99, exclusive_node=True))
    assert calibration.first(limited, "") == calibration.first(TINY, "")
    assert calibration.first(replace(TINY, task="finetune"), "") is None


def test_a_calibration_that_was_lost_is_measured_again(context: loop.Context, tmp_path: Path) -> None:
    addresses = iter([str(tmp_path / "no_server"), context.server(), context.server()])
    (found,) = loop.inline([TINY], replace(context, server=lambda: next(addresses)))
    assert found.status == "ok", found.error
    assert context.calibration is not None
    assert context.calibration.judge(found).limits["peak_gflops_per_s"] > 1


def test_a_calibration_is_lost_only_as_often_as_a_trial(context: loop.Context, tmp_path: Path) -> None:
    nowhere, asked, warned = str(tmp_path / "no_server"), list[str](), list[str]()
    lost = replace(context, server=lambda: asked.append("") or nowhere, retries=2, warn=warned.append)
    (found,) = loop.inline([TINY], lost)
    assert found.status == "crashed"
    assert len(asked) == 3 + 3
    assert warned == ["cpu at float32 could not be calibrated: ForkServerLost: the fork server was lost"]


def test_work_that_was_not_done_is_caught(context: loop.Context) -> None:
    """A pass most of which TensorFlow prunes takes no time: its rate is above anything the device can do.

    What one core can do is given here, well above any there is: thirteen billion operations a step are 13 ms at least.
    """
    target = "tests.support.models.odd_graphs.mostly_pruned"
    pruned = replace(TINY, model="pruned", target=target, batch=64, passes=("forward",), device=Device(cpus=1))
    (found,) = loop.inline([pruned], replace(context, calibration=None))
    assert found.status == "ok", found.error
    calibration = Calibration()
    asked = calibration.first(pruned, "")
    assert asked is not None
    calibration.note(result(asked, limits={"peak_gflops_per_s": 1000.0}), "")
    doubts = " ".join(calibration.judge(found).quality)
    assert "above peak: " in doubts
    assert "work: 0% of the layers' products are computed" in doubts


def test_a_device_that_cannot_be_calibrated_is_told_and_its_trials_run() -> None:
    calibration = Calibration()
    asked = calibration.first(TINY, "")
    assert asked is not None
    failed = replace(result(asked), status="timeout", passes={}, error=Failure(kind="Timeout", message="not done"))
    assert calibration.note(failed, "") == "cpu at float32 could not be calibrated: Timeout: not done"
    assert calibration.first(TINY, "") is None
    assert calibration.judge(result(TINY)).quality == ()
