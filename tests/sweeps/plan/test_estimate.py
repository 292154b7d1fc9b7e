from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.machine.node import Node
from sweeps.plan.estimate import Estimator, earlier_results, matrix_rate, total_s
from sweeps.plan.preflight import Net, key
from tests.support.records import make_result, make_sweep
from tracking.folder.journal import Journal
from tracking.record import Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Adaptive, Classic

TRIAL = Trial(model="net", batch=2, protocol=Classic(burn_in=9, steps=90))
NET = Net(parameter_mb=1, activation_mb=1, largest_mb=1, forward_flops=1_000_000_000, training_flops=3_000_000_000)
NETS = {key(TRIAL): NET}


def test_a_trial_that_was_measured_takes_what_it_took() -> None:
    earlier = make_result(model="net")
    found = Estimator({}, [earlier])(earlier.trial)
    assert found is not None
    assert found.likely_s == earlier.wall_s


def test_another_batch_of_a_net_takes_its_operations_at_the_rate_seen_here() -> None:
    earlier = make_result(model="other")  # 4 images a step
    found = Estimator(NETS, [earlier])(TRIAL)
    forward, training = earlier.passes["forward"], earlier.passes["forward_backward"]
    assert forward.flops is not None
    assert training.flops is not None
    steps = 100 * 2 * (1e9 / forward.flops * forward.median_s + 3e9 / training.flops * training.median_s)
    assert found is not None
    assert found.likely_s == pytest.approx(steps, rel=0.05)


def test_where_nothing_was_measured_a_matrix_product_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.plan.estimate.matrix_rate", lambda: 1e9)
    found = Estimator(NETS, [])(TRIAL)
    assert found is not None
    assert found.likely_s == pytest.approx(8e9 * 100 / (0.4 * 1e9) + 0.3)  # a net reaches 0.4 of a matrix product's


def test_a_matrix_product_is_measured_in_operations_a_second() -> None:
    assert 1e7 < matrix_rate() < 1e15  # from a single slow core to more than any machine


@pytest.mark.parametrize(
    "trial",
    [
        replace(TRIAL, model="unknown"),
        replace(TRIAL, device=Device(name="gpu", kind="gpu", gpus=1)),
        replace(TRIAL, task="classify"),
    ],
)
def test_nothing_is_claimed_about_the_unknown(trial: Trial) -> None:
    assert Estimator(NETS, [])(trial) is None


def test_the_limits_of_the_protocol_bound_an_adaptive_trial() -> None:
    slow = Net(parameter_mb=1, activation_mb=1, largest_mb=1, forward_flops=10**10, training_flops=3 * 10**10)
    adaptive = replace(TRIAL, protocol=Adaptive(max_seconds=2, max_warmup_seconds=1, min_steps=1))
    found = Estimator({key(TRIAL): slow}, [])(adaptive)
    assert found is not None
    assert found.likely_s <= found.most_s < math.inf
    limited = Estimator({key(TRIAL): slow}, [])(replace(adaptive, timeout_s=0.5))
    assert limited is not None
    assert limited.likely_s == 0.5


def test_trials_of_one_core_run_side_by_side() -> None:
    one, whole = replace(TRIAL, device=Device(cpus=1)), TRIAL
    node = Node(cpus=2)
    assert total_s([(one, 10.0), (one, 10.0)], [node]) == 10
    assert total_s([(whole, 10.0), (whole, 10.0)], [node]) == 20
    assert total_s([(one, 10.0)], [node]) == 10


@pytest.mark.parametrize(
    ("device", "node", "seconds"),
    [
        (Device(name="gpu", kind="gpu", gpus=1, cpus=2), Node(cpus=16, gpus=1), 40),
        (Device(name="gpu", kind="gpu", gpus=2, cpus=2), Node(cpus=16, gpus=5), 20),
        (Device(cpus=2), Node(cpus=3), 40),
        (Device(cpus=1, resources={"disk": 0.1}), Node(cpus=16, resources={"disk": 0.2}), 20),
        (Device(cpus=1, exclusive_node=True), Node(cpus=16), 40),
    ],
)
def test_as_many_run_at_once_as_the_scarcest_thing_allows(device: Device, node: Node, seconds: float) -> None:
    trials = [(replace(TRIAL, device=device), 10.0)] * 4
    assert total_s(trials, [node]) == seconds
    assert total_s(trials, [node, node]) == seconds / 2
    assert total_s(trials, [node, Node(cpus=0)]) == seconds
    assert total_s(trials, [node], at_once=1) == 40


def test_only_ok_results_of_this_machine_within_this_quota_count(tmp_path: Path) -> None:
    folder = tmp_path / "multirun" / "day" / "time"
    here, elsewhere = make_result(), make_result(batch=8, host={"hostname": "node2"})
    limited = make_result(batch=32, host={"hostname": "node1", "cpu_quota": 0.5})
    results = [here, elsewhere, make_result(batch=16, status="oom"), limited]
    journal = Journal(folder)
    journal.write_plan(make_sweep(results, folder))
    for result in results:
        journal.append(result)
    journal.close()
    assert earlier_results(tmp_path, {"hostname": "node1"}) == [here]
    assert earlier_results(tmp_path, {"hostname": "node1", "cpu_quota": 0.5}) == [limited]
