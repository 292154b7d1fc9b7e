from __future__ import annotations

from sweeps.devices import Node, environment, ray_options
from tracking.record import Device

GPU = Device(name="gpu", kind="gpu", cpus=2, gpus=1)


def test_a_trial_asks_ray_for_its_own_resources() -> None:
    node = Node(cpus=16, gpus=2)
    assert ray_options(Device(), node) == {"num_cpus": 16, "num_gpus": 0}
    assert ray_options(GPU, node) == {"num_cpus": 2, "num_gpus": 1}
    assert ray_options(Device(cpus=1, resources={"fast": 0.5}), node)["resources"] == {"fast": 0.5}


def test_a_trial_sees_the_gpus_it_was_given_and_no_others() -> None:
    assert environment(GPU, ("1",)) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert environment(Device(), ()) == {"CUDA_VISIBLE_DEVICES": "-1"}


def test_a_node_names_what_it_lacks() -> None:
    assert Node(cpus=2).misses(Device(cpus=2)) == []
    assert Node(cpus=2, gpus=1).misses(Device(name="h100", kind="gpu", gpus=4)) == [
        "device=h100 asks for 4 GPUs and this machine has 1 GPU"
    ]
    assert Node(cpus=1, name="n7").misses(Device(cpus=3, resources={"fast": 1})) == [
        "device.cpus=3 asks for 3 cores and n7 has 1",
        "device.resources.fast=1 and n7 has 0",
    ]
