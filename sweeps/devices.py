"""A device as data, turned into what each layer below needs: Ray resources, cores, a process environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracking.record import Device


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one machine offers to trials."""

    cpus: int
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    name: str = "this machine"

    def misses(self, device: Device) -> list[str]:
        """What `device` asks for and this node has not, in words; empty if the device fits."""
        lacking = []
        if (device.cpus or 1) > self.cpus:
            lacking.append(f"device.cpus={device.cpus} asks for {device.cpus} cores and {self.name} has {self.cpus}")
        if device.gpus > self.gpus:
            has = f"{self.gpus} GPU{'s' * (self.gpus != 1)}" if self.gpus else "none"
            lacking.append(
                f"device={device.name} asks for {device.gpus} GPU{'s' * (device.gpus != 1)} and {self.name} has {has}"
            )
        for name, amount in device.resources.items():
            if amount > self.resources.get(name, 0):
                lacking.append(
                    f"device.resources.{name}={amount:g} and {self.name} has {self.resources.get(name, 0):g}"
                )
        return lacking

    def cores_for(self, device: Device) -> int:
        """Cores a trial on this node gets: what its device asks for, or all of them."""
        return device.cpus or self.cpus


def ray_options(device: Device, node: Node) -> dict[str, Any]:
    """Ray's resource arguments for one trial on `device`."""
    options: dict[str, Any] = {"num_cpus": node.cores_for(device), "num_gpus": device.gpus}
    if device.resources:
        options["resources"] = dict(device.resources)
    return options


def environment(device: Device, gpu_ids: tuple[str, ...]) -> dict[str, str]:
    """The environment that shows a trial's process the GPUs it was given and hides all others."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpu_ids) if device.kind == "gpu" else "-1"}
