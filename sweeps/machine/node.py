"""What a node offers, and what a device requires: Ray resources, cores, a process environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sweeps.wording import counted
from tracking.schema.device import Device


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one machine offers to trials."""

    cpus: int
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    accelerator: str | None = None
    """Ray's name for the type of its GPUs, e.g. `H100`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = "this machine"
    node_id: str = ""
    """Its id in Ray; empty where trials run on this machine only."""
    ray_cpus: int = 0
    """Cores as Ray counts them, where these are more than trials can use."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts for a result about where it ran, even if the trial could report nothing."""
    memory_mb: float | None = None
    """Memory of the machine, in units of 2**20 bytes; None where it is not known."""
    cpu_quota: float | None = None
    """The processor time that the node's container may use, in cores; None if unlimited."""
    memory_limit_mb: float | None = None
    """The memory that the node's container may use, in units of 2**20 bytes; None if unlimited."""
    variables: frozenset[str] = frozenset()
    """Names of environment variables that are set there and may change a figure (`sweeps/machine/environment.py`)."""

    @property
    def room_mb(self) -> float | None:
        """The memory that trials may use together, in units of 2**20 bytes; None where it is not known."""
        return min((size for size in (self.memory_mb, self.memory_limit_mb) if size is not None), default=None)

    @cached_property
    def offer(self) -> str:
        """A key of all that `misses` depends on, equal for nodes that can take the same devices."""
        resources, labels = sorted(self.resources.items()), sorted(self.labels.items())
        return repr((self.cpus, self.gpus, self.accelerator, resources, labels))

    @property
    def kind(self) -> str:
        """A description of what it offers, equal for nodes that take the same trials."""
        gpus = counted(self.gpus, "GPU") + (f" ({self.accelerator})" if self.accelerator else "")
        offers = ", ".join(
            [
                counted(self.cpus, "core"),
                *([gpus] if self.gpus else []),
                *(f"{name}={amount:g}" for name, amount in sorted(self.resources.items())),
                *(f"{name}={value}" for name, value in sorted(self.labels.items())),
            ]
        )
        return f"{offers}; {self.container}" if self.container else offers

    @property
    def container(self) -> str:
        """A phrase with the limits of the node's container; empty where it has none."""
        limits = []
        if self.cpu_quota is not None:
            limits.append(f"quota is {self.cpu_quota:.3g}")
        if self.memory_limit_mb is not None:
            limits.append(f"memory limit is {self.memory_limit_mb:.0f} MB")
        return f"the container's {' and its '.join(limits)}" if limits else ""

    def misses(self, device: Device) -> list[str]:
        """Return a description of what `device` requires and this node lacks; empty if the device fits."""
        lacking = []
        if (device.cpus or 1) > self.cpus:
            if device.cpus is None:
                lacking.append(f"device={device.name} asks for a core and {self.name} has none")
            else:
                quota = f" (the container's quota is {self.cpu_quota:.3g})" if self.cpu_quota is not None else ""
                asks = f"device.cpus={device.cpus} asks for {device.cpus} cores"
                lacking.append(f"{asks} and {self.name} has {self.cpus}{quota}")
        if device.gpus > self.gpus:
            has = counted(self.gpus, "GPU") if self.gpus else "none"
            lacking.append(f"device={device.name} asks for {counted(device.gpus, 'GPU')} and {self.name} has {has}")
        if device.accelerator not in (None, self.accelerator):
            has = self.accelerator or "none that Ray knows"
            lacking.append(f"device.accelerator={device.accelerator} and {self.name} has {has}")
        for name, amount in device.resources.items():
            if amount > self.resources.get(name, 0):
                lacking.append(
                    f"device.resources.{name}={amount:g} and {self.name} has {self.resources.get(name, 0):g}"
                )
        for name, value in device.node_labels.items():
            if value != self.labels.get(name):
                has = repr(self.labels[name]) if name in self.labels else "no such label"
                lacking.append(f"device.node_labels.{name}={value} and {self.name} has {has}")
        return lacking

    def cores_for(self, device: Device) -> int:
        """Return how many cores a trial gets on this node: those that its device requires, or all of them."""
        return device.cpus or self.cpus

    def at_once(self, device: Device) -> int:
        """Return how many trials of a device that fits this node can run here side by side."""
        if device.exclusive_node:
            return 1
        shares = [self.cpus // self.cores_for(device)]
        if device.gpus:
            shares.append(self.gpus // device.gpus)
        # Ray counts fractions such as 0.1 in ten thousandths.
        shares += [int(self.resources[name] / amount + 1e-4) for name, amount in device.resources.items() if amount > 0]
        return min(shares)


def demand(device: Device) -> str:
    """Return a key of what a device requires of its node, equal for devices that differ only in their settings."""
    return repr(
        (
            device.cpus,
            device.gpus,
            device.accelerator,
            sorted(device.resources.items()),
            sorted(device.node_labels.items()),
            device.exclusive_node,
        )
    )


def parts(amount: float) -> int:
    """Return an amount of a resource in ten thousandths, as Ray counts: three times 0.1 is 0.3."""
    return round(amount * 10_000)


def limits(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Node that follow from the facts about its host."""
    return {
        "memory_mb": facts["memory_gb"] * 1024,
        "cpu_quota": facts.get("cpu_quota"),
        "memory_limit_mb": facts.get("memory_limit_mb"),
        "variables": frozenset(facts["env"]),
    }


def ray_options(device: Device, node: Node) -> dict[str, Any]:
    """Return Ray's resource arguments for one trial on `device` on this node.

    The choice of the node has met accelerator and labels. A trial with `exclusive_node` takes all cores of its node.
    """
    cpus = max(node.cpus, node.ray_cpus) if device.exclusive_node else node.cores_for(device)
    options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": device.gpus}
    if device.resources:
        options["resources"] = dict(device.resources)
    return options


def ray_amounts(device: Device, node: Node) -> dict[str, float]:
    """Return what one trial on `device` takes of Ray's resources there, by Ray's names."""
    options = ray_options(device, node)
    return {"CPU": options["num_cpus"], "GPU": options["num_gpus"], **options.get("resources", {})}


def environment(device: Device, gpu_ids: tuple[str, ...]) -> dict[str, str]:
    """Return the variables that show a trial's process its GPUs and hide all others."""
    if device.kind == "cpu":
        return {"CUDA_VISIBLE_DEVICES": "-1"}
    # Ray and NVML number GPUs by bus; CUDA does so by speed unless set otherwise.
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpu_ids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
