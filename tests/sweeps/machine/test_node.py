from __future__ import annotations

from dataclasses import replace

from sweeps.machine.node import Node, environment, ray_options
from tracking.schema.device import Device

GPU = Device(name="gpu", kind="gpu", cpus=2, gpus=1)


def test_a_trial_asks_ray_for_its_own_resources() -> None:
    node = Node(cpus=16, gpus=2)
    assert ray_options(Device(), node) == {"num_cpus": 16, "num_gpus": 0}
    assert ray_options(GPU, node) == {"num_cpus": 2, "num_gpus": 1}
    assert ray_options(Device(cpus=1, resources={"fast": 0.5}), node)["resources"] == {"fast": 0.5}


def test_a_trial_sees_the_gpus_it_was_given_and_no_others() -> None:
    shown = environment(replace(GPU, gpus=2), ("0", "3"))
    assert shown == {"CUDA_VISIBLE_DEVICES": "0,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environment(Device(), ()) == {"CUDA_VISIBLE_DEVICES": "-1"}


def test_a_node_names_what_it_lacks() -> None:
    assert Node(cpus=2).misses(Device(cpus=2)) == []
    assert Node(cpus=1, cpu_quota=1.5).misses(Device(cpus=2)) == [
        "device.cpus=2 asks for 2 cores and this machine has 1 (the container's quota is 1.5)"
    ]
    assert Node(cpus=2, gpus=1).misses(Device(name="h100", kind="gpu", gpus=4)) == [
        "device=h100 asks for 4 GPUs and this machine has 1 GPU"
    ]
    assert Node(cpus=1, name="n7").misses(Device(cpus=3, resources={"fast": 1})) == [
        "device.cpus=3 asks for 3 cores and n7 has 1",
        "device.resources.fast=1 and n7 has 0",
    ]


def test_a_node_is_what_it_offers() -> None:
    node = Node(cpus=16, gpus=1, accelerator="H100", labels={"zone": "a"}, resources={"fast": 2}, name="n7")
    assert node.kind == "16 cores, 1 GPU (H100), fast=2, zone=a"
    assert Node(cpus=1, cpu_quota=0.5).kind == "1 core; the container's quota is 0.5"
    assert Node(cpus=2, memory_limit_mb=1500).kind == "2 cores; the container's memory limit is 1500 MB"
    assert node.misses(Device(accelerator="H100", node_labels={"zone": "a"}, resources={"fast": 2})) == []
    assert node.misses(Device(accelerator="A100", node_labels={"zone": "b", "disk": "ssd"})) == [
        "device.accelerator=A100 and n7 has H100",
        "device.node_labels.zone=b and n7 has 'a'",
        "device.node_labels.disk=ssd and n7 has no such label",
    ]
    assert Node(cpus=0, name="head").misses(Device()) == ["device=cpu asks for a core and head has none"]


def test_a_trial_that_wants_its_node_alone_takes_its_cores_in_ray() -> None:
    assert ray_options(Device(cpus=2, exclusive_node=True), Node(cpus=16))["num_cpus"] == 16
