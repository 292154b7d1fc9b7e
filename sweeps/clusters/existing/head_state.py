"""A Ray cluster's nodes as its head reports them: which are alive, what they offer, and what is free on them now.

The head is queried through a client of its own instead of `ray.nodes()`, which ends the whole process, from C++, when
another cluster answers at the address, as after a restart of the head. This client raises.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sweeps.clusters.existing import autoscaler
from sweeps.dispatch.fleet import Held
from sweeps.machine.node import Node, limits

_ANSWER_S = 10.0
"""How long the head may take to answer, seconds."""
_PROBE_S = 5.0
"""How long the head may take to accept a connection, seconds."""
_ACCELERATOR = "accelerator_type:"
_BUILT_IN = ("CPU", "GPU", "memory", "object_store_memory")
_OF_PLACEMENT_GROUP = re.compile(r".+_group_(\d+_)?[0-9a-f]{32,}")
"""Ray's names for the part of a node that a job has set aside for its own tasks."""
_SMALLEST = 1e-4
"""The smallest amount of a resource that Ray counts."""


@dataclass(frozen=True, kw_only=True)
class NodeState:
    """A node of the cluster as Ray sees it."""

    node_id: str
    address: str
    hostname: str
    offers: Mapping[str, float]
    """Its resources, by Ray's names."""
    free: Mapping[str, float]
    """The part of them that nobody holds."""
    labels: Mapping[str, str]
    leaving: bool
    """It is about to be removed, like an autoscaler's idle nodes and pre-empted ones."""

    @property
    def name(self) -> str:
        return self.address if self.hostname in ("", self.address) else f"{self.address} ({self.hostname})"


class Connection(Protocol):
    """The connection to the cluster, as the fleet needs it."""

    home: str | None
    """Id of the node that the driver runs on; None: it runs outside of the cluster."""
    endpoint: tuple[str, int]
    """Where the cluster accepts connections."""

    def nodes(self) -> dict[str, NodeState]:
        """Return the nodes that are alive, by id."""

    def autoscaled(self) -> bool:
        """Return whether the cluster has an autoscaler."""

    def request(self, wanted: Sequence[autoscaler.Bundle]) -> bool:
        """Replace the request to the autoscaler, and return whether it may be fulfilled."""

    def cut_off(self) -> bool:
        """Return whether this connection is unusable from now on, whether or not the cluster is alive."""

    def reopen(self) -> None:
        """Reconnect, to whatever cluster is there now. Raises UsageError where that fails."""


def no_answer(host_name: str, port: int) -> OSError | None:
    """Return why no connection is accepted there; None: one is."""
    try:
        socket.create_connection((host_name, port), timeout=_PROBE_S).close()
    except OSError as error:
        return error
    return None


class Head:
    """The head of the cluster that this process, on one of its nodes, is connected to."""

    def __init__(self) -> None:
        import ray
        from ray import _raylet

        self._client = _raylet.GcsClient(  # type: ignore[attr-defined] # Ray's stubs leave it out
            address=ray.get_runtime_context().gcs_address
        )
        self._hostnames: dict[bytes, str] = {}

    def nodes(self) -> dict[str, NodeState]:
        """Return the nodes that are alive, by id. Raises what Ray raises."""
        from ray.core.generated import autoscaler_pb2

        reply = autoscaler_pb2.GetClusterResourceStateReply()
        reply.ParseFromString(self._client.get_cluster_resource_state(timeout_s=_ANSWER_S))
        states = autoscaler_pb2.NodeStatus
        alive = [node for node in reply.cluster_resource_state.node_states if node.status != states.DEAD]
        if any(node.node_id not in self._hostnames for node in alive):
            infos = self._client.get_all_node_info(timeout=_ANSWER_S)
            self._hostnames = {info.node_id: info.node_manager_hostname for info in infos.values()}
        return {
            node.node_id.hex(): NodeState(
                node_id=node.node_id.hex(),
                address=node.node_ip_address,
                hostname=self._hostnames.get(node.node_id, ""),
                offers=dict(node.total_resources),
                free=dict(node.available_resources),
                labels=dict(node.labels),
                leaving=node.status == states.DRAINING,
            )
            for node in alive
        }

    def autoscaled(self) -> bool:
        """Return whether the cluster has an autoscaler. Raises what Ray raises."""
        return autoscaler.present(self._client, _ANSWER_S)

    def request(self, wanted: Sequence[autoscaler.Bundle]) -> bool:
        """Replace the request to the autoscaler, and return whether it may be fulfilled. Raises what Ray raises."""
        autoscaler.request(wanted)
        return not autoscaler.impossible(self._client, _ANSWER_S)


class RemoteHead:
    """The head for a driver outside of the cluster, which reaches only Ray Client's port: a `Head` in an actor."""

    def __init__(self) -> None:
        import ray

        self._actor: Any = ray.remote(Head).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()

    def nodes(self) -> dict[str, NodeState]:
        import ray

        nodes: dict[str, NodeState] = ray.get(self._actor.nodes.remote(), timeout=_ANSWER_S)
        return nodes

    def autoscaled(self) -> bool:
        import ray

        return bool(ray.get(self._actor.autoscaled.remote(), timeout=_ANSWER_S))

    def request(self, wanted: Sequence[autoscaler.Bundle]) -> bool:
        import ray

        return bool(ray.get(self._actor.request.remote(wanted), timeout=_ANSWER_S))


def node(state: NodeState, about: Mapping[str, Any]) -> Node:
    """Return what a node offers to trials, from its state in Ray and what its agent reports `about` it."""
    accelerators = [name.removeprefix(_ACCELERATOR) for name in state.offers if name.startswith(_ACCELERATOR)]
    return Node(
        cpus=min(int(state.offers.get("CPU", 0)), about.get("cores", 0)),
        gpus=int(state.offers.get("GPU", 0)),
        resources={name: amount for name, amount in state.offers.items() if _is_custom(name)},
        accelerator=accelerators[0] if accelerators else None,
        labels={name: value for name, value in state.labels.items() if not name.startswith("ray.io/node-id")},
        name=state.name,
        node_id=state.node_id,
        ray_cpus=int(state.offers.get("CPU", 0)),
        **(limits(about["facts"]) if about else {}),
        facts={"hostname": state.hostname, "node_id": state.node_id, "node_ip": state.address},
    )


def held(state: NodeState, used: Counter[str]) -> Held:
    """Return what others hold of a node, given how much of it the sweep itself has `used`."""

    def others(name: str) -> float:
        rest = state.offers.get(name, 0.0) - state.free.get(name, 0.0) - used[name]
        return rest if rest > _SMALLEST / 2 else 0.0

    resources = {name: others(name) for name in state.offers if _is_custom(name)}
    return Held(
        cpus=others("CPU"),
        gpus=others("GPU"),
        resources={name: amount for name, amount in resources.items() if amount},
    )


def _is_custom(resource: str) -> bool:
    built_in = resource in _BUILT_IN or resource.startswith((_ACCELERATOR, "node:"))
    return not built_in and not _OF_PLACEMENT_GROUP.fullmatch(resource)
