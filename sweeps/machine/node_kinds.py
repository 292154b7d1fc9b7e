"""Groups nodes by what they offer: checks cost kinds of devices times kinds of nodes, not trials times nodes."""

from __future__ import annotations

from collections.abc import Iterable

from sweeps.machine.node import Node, demand
from tracking.schema.device import Device


class NodeKinds:
    """Nodes grouped by their offer; each demand is compared with each offer once."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.groups: dict[str, list[Node]] = {}
        """The nodes of each offer."""
        for node in nodes:
            self.groups.setdefault(node.offer, []).append(node)
        self._fitting: dict[str, list[list[Node]]] = {}
        self._room_mb: dict[str, float | None] = {}
        self._lacking: dict[str, list[str]] = {}

    def fitting(self, device: Device) -> list[list[Node]]:
        """Return the groups of nodes that can take trials on that device."""
        key = demand(device)
        if key not in self._fitting:
            self._fitting[key] = [alike for alike in self.groups.values() if not alike[0].misses(device)]
        return self._fitting[key]

    def lacking(self, device: Device) -> list[str]:
        """Return a sentence on what nodes lack for a device that none can provide, naming nodes of one kind once."""
        key = repr(device)
        if key not in self._lacking:
            self._lacking[key] = self._shortfalls(device)
        return self._lacking[key]

    def _shortfalls(self, device: Device) -> list[str]:
        kinds: dict[str, list[Node]] = {}
        for node in (node for alike in self.groups.values() for node in alike):
            kinds.setdefault(node.kind, []).append(node)
        if sum(map(len, kinds.values())) == 1:
            return next(iter(kinds.values()))[0].misses(device)
        shortfalls = []
        for alike in kinds.values():
            more = f" (and {len(alike) - 1} more like it)" if len(alike) > 1 else ""
            shortfalls.append(" and ".join(alike[0].misses(device)) + more)
        return [f"device={device.name}: no node of the cluster can provide it: {'; '.join(shortfalls)}"]

    def room_mb(self, device: Device) -> float | None:
        """Return the memory of the roomiest node that the device fits, in units of 2**20 bytes; None if not known."""
        key = demand(device)
        if key not in self._room_mb:
            rooms = [node.room_mb for alike in self.fitting(device) for node in alike if node.room_mb is not None]
            self._room_mb[key] = max(rooms, default=None)
        return self._room_mb[key]

    def at_once(self, device: Device) -> int:
        """Return how many trials on that device run side by side on all nodes."""
        return sum(len(alike) * alike[0].at_once(device) for alike in self.fitting(device))
