"""This machine as a node of a sweep."""

from __future__ import annotations

from sweeps.machine import cores, host
from sweeps.machine.node import Node, limits


def this_node() -> Node:
    """Return what this machine offers to trials."""
    return Node(
        cpus=len(cores.available()), gpus=host.gpu_count(), accelerator=host.accelerator(), **limits(host.facts())
    )
