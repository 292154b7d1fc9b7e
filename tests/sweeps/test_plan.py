from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sweeps import plan
from sweeps.devices import Node
from tracking.record import Device, Trial

A, B = Trial(model="tiny", batch=1), Trial(model="tiny", batch=2)


def test_two_points_that_ask_for_the_same_number_are_one_trial() -> None:
    assert plan.unique([A, B, replace(A, timeout_s=3.0)]) == [replace(A, timeout_s=3.0), B]


def test_without_repeats_the_order_is_the_grids() -> None:
    assert plan.ordered([B, A], None, seed=0) == [B, A]


def test_repeats_alternate_by_default_and_by_seed() -> None:
    trials = [replace(Trial(model="tiny", batch=b), repeat=r) for b in range(1, 9) for r in range(3)]
    order = plan.ordered(trials, None, seed=0)
    assert [trial.repeat for trial in order] == [0] * 8 + [1] * 8 + [2] * 8
    assert sorted(order, key=trials.index) == trials
    assert order == plan.ordered(trials, "interleaved", seed=0) != plan.ordered(trials, None, seed=1)
    assert plan.ordered(trials, "grid", seed=0) == trials


def test_problems_name_what_no_node_has() -> None:
    node = Node(cpus=2)
    trials = [
        replace(A, device=Device(cpus=99)),
        replace(A, device=Device(name="gpu", kind="gpu", gpus=1)),
        replace(A, device=Device(resources={"tpu": 1})),
        replace(A, weights="no/such/file.npy"),
        B,
    ]
    found = plan.problems(trials, [node])
    assert len(found) == 4
    assert "device.cpus=99 asks for 99 cores and this machine has 2" in found
    assert "device=gpu asks for 1 GPU and this machine has none" in found
    assert plan.problems(trials[:3], [node, Node(cpus=128, gpus=8, resources={"tpu": 4})]) == []


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    assert plan.unwritable(tmp_path / "new" / "folder") == []
    (tmp_path / "file").touch()
    assert "expected a results folder" in plan.unwritable(tmp_path / "file" / "folder")[0]
