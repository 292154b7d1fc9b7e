"""What lives on each node of a Ray cluster for the length of a sweep: its answers, its gate and its fork server."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeps.dispatch.task_gate import Gate
from sweeps.machine import cores, host, versions
from sweeps.plan import node_inputs
from sweeps.plan.node_inputs import Wanted
from sweeps.worker.forkserver import LastingServer

_CALLS_AT_ONCE = 4
"""To an agent: whoever waits for its fork server holds up no trial that asks whether it may start."""


class Agent(Gate):
    """Lives on one node as a Ray actor: says what is there, and keeps its fork server, which ends with it."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the sweep was started; its trials run there, where this node has it."""
        super().__init__()
        self._server = LastingServer(None if folder is None else Path(folder))
        # Ray sets these for its own workers; a trial's threads and GPUs are set by its device.
        for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            os.environ.pop(name, None)

    def about(self, wanted: Wanted) -> dict[str, Any]:
        """The node's versions and cores, and what it has of what trials need."""
        about = {"versions": versions.here(), "cores": len(cores.available()), "facts": host.facts()}
        return about | {"inputs": asdict(node_inputs.look(wanted, self._server.address))}

    def address(self) -> str:
        """Where a fork server listens on this node, after waiting for it."""
        return self._server.address()


def start(node_id: str, folder: str | None) -> Any:
    """Start an agent on the node with that id, for a sweep that was started in `folder`; Ray's handle of it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": there, "max_concurrency": _CALLS_AT_ONCE}
    return ray.remote(Agent).options(**options).remote(folder)
