"""The agent on each node of a Ray cluster for the length of a sweep: its report, its gate and its fork server."""

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
"""Per agent, so that a call that waits for the fork server delays no trial that asks whether it may start."""


class Agent(Gate):
    """A Ray actor on one node: reports what the node has, and owns its fork server, which ends with it."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the sweep was started; its trials run there if this node has that folder."""
        super().__init__()
        self._server = LastingServer(None if folder is None else Path(folder))
        # Ray sets these for its own workers; a trial's threads and GPUs are set by its device.
        for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            os.environ.pop(name, None)

    def about(self, wanted: Wanted) -> dict[str, Any]:
        """Return the node's versions, cores and facts, and which of the trials' inputs it has."""
        about = {"versions": versions.here(), "cores": len(cores.available()), "facts": host.facts()}
        return about | {"inputs": asdict(node_inputs.look(wanted, self._server.address))}

    def address(self) -> str:
        """Return the address of this node's fork server, once it listens."""
        return self._server.address()


def start(node_id: str, folder: str | None) -> Any:
    """Start an agent on the node for a sweep that was started in `folder`, and return Ray's handle of it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    on_node = NodeAffinitySchedulingStrategy(node_id, soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": on_node, "max_concurrency": _CALLS_AT_ONCE}
    return ray.remote(Agent).options(**options).remote(folder)
