"""A device: what a trial asks of the scheduler, and what TensorFlow gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tracking.schema.fields import Count


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a trial runs: what it requires of the scheduler, and what TensorFlow may use."""

    name: str = "cpu"
    kind: Literal["cpu", "gpu"] = "cpu"
    cpus: Count | None = None
    """Cores the trial has to itself; None: every core of its node."""
    gpus: Count = 0
    threads: Count | None = None
    """TensorFlow's threads within and between operations; None: one per core."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Custom Ray resources, by name."""
    memory_mb: Count | None = None
    """Resident memory at which the trial is ended; None: no limit."""
    gpu_memory_mb: Count | None = None
    """Hard limit of TensorFlow's memory on each GPU; None: it grows as needed."""
    accelerator: str | None = None
    """Ray accelerator type that the node must have, e.g. `H100`."""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    """Ray node labels that the node must have."""
    exclusive_node: bool = False
    """No other trial runs on the node meanwhile."""

    CAME_LATER: ClassVar[Mapping[str, Any]] = {
        "memory_mb": None,
        "gpu_memory_mb": None,
        "accelerator": None,
        "node_labels": {},
        "exclusive_node": False,
    }
    """Fields that old records lack; at these values they are left out of the id, which stays as it was without them."""

    @property
    def label(self) -> str:
        """The device's name and what differs from its plain form; valid in an MLflow metric key."""
        words = [self.name]
        if self.cpus is not None:
            words.append(f"{self.cpus} core{'s' * (self.cpus != 1)}")
        if self.threads is not None:
            words.append(f"{self.threads} thread{'s' * (self.threads != 1)}")
        if self.gpus > 1:
            words.append(f"{self.gpus} gpus")
        if self.memory_mb is not None:
            words.append(f"{self.memory_mb} mb")
        if self.gpu_memory_mb is not None:
            words.append(f"{self.gpu_memory_mb} mb a gpu")
        if self.exclusive_node:
            words.append("alone")
        return " ".join(words)
