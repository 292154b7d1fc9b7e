from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sweeps.machine.node import Node
from sweeps.plan.checks import problems, unwritable
from tracking.record import Trial
from tracking.schema.device import Device

A, B = Trial(model="tiny", batch=1), Trial(model="tiny", batch=2)


def test_problems_name_what_no_node_has() -> None:
    node = Node(cpus=2)
    trials = [
        replace(A, device=Device(cpus=99)),
        replace(A, device=Device(name="gpu", kind="gpu", gpus=1)),
        replace(A, device=Device(resources={"tpu": 1})),
        replace(A, weights="no/such/file.npy"),
        B,
    ]
    sentences = problems(trials, [node])
    assert len(sentences) == 4
    assert "device.cpus=99 asks for 99 cores and this machine has 2" in sentences
    assert "device=gpu asks for 1 GPU and this machine has none" in sentences
    assert problems(trials[:3], [node, Node(cpus=128, gpus=8, resources={"tpu": 4})]) == []


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "new" / "folder") == []
    (tmp_path / "file").touch()
    assert "expected a results folder" in unwritable(tmp_path / "file" / "folder")[0]


def test_of_a_cluster_each_kind_of_nodes_says_what_it_lacks() -> None:
    nodes = [Node(cpus=2, name="a"), Node(cpus=2, name="b"), Node(cpus=4, gpus=1, name="c")]
    trial = replace(A, device=Device(name="big", kind="gpu", cpus=8, gpus=2))
    assert problems([trial, B], nodes) == [
        "device=big: no node of the cluster can provide it: device.cpus=8 asks for 8 cores and a has 2 and "
        "device=big asks for 2 GPUs and a has none (and 1 more like it); "
        "device.cpus=8 asks for 8 cores and c has 4 and device=big asks for 2 GPUs and c has 1 GPU"
    ]
