"""The nodes that trials run on, as the driver sees them: what is free on each.

Pure bookkeeping: how nodes come and go is in `sweeps.clusters.existing.nodes`, and the choice of the next trial and its
node in `sweeps.dispatch.placing`, which gets every node that has changed from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeps.dispatch.task_inbox import Inbox
from sweeps.machine import cores
from sweeps.machine.node import Node, parts, ray_amounts
from tracking.record import Result, Trial
from tracking.schema.device import Device


@dataclass(frozen=True, kw_only=True)
class Held:
    """What jobs other than the sweep hold of a node, as Ray counts it."""

    cpus: float = 0.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.cpus or self.gpus or self.resources)


NOTHING = Held()


class Slot:
    """One node and what is free on it. Slots are compared by identity.

    Whatever may change what `has_room` returns, or `busy`, has to call `changed`.
    """

    def __init__(self, node: Node, server: Callable[[], str], *, local: bool = True, keeps: int = 0) -> None:
        self.node = node
        self.server = server
        """Returns the address of its fork server."""
        self.local = local
        """Whether the driver runs there, so that a trial writes straight into the sweep's folder."""
        self.keeps = keeps
        """Cores that the driver keeps for itself while there are other nodes."""
        self.busy = 0
        """The number of trials that run there."""
        self.place = 0
        """Its position in its fleet: nodes that joined earlier have a lower one."""
        self.changes: dict[Slot, None] = {}
        """Where it reports a change: its fleet's `changes`, once it belongs to one."""
        self.gate: Any = None
        """The gate on that node where a task asks whether it may start (`sweeps.dispatch.task_gate`); None: it may."""
        self._ready = True
        self._leaving = False
        self._held = NOTHING
        self._mine: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._alone = 0
        self._cores = 0
        self._gpus = 0
        self._parts: Counter[str] = Counter()

    @property
    def ready(self) -> bool:
        """Whether it takes trials at present."""
        return self._ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        self._ready = ready
        self.changed()

    @property
    def held(self) -> Held:
        """What others held of it when the fleet last looked."""
        return self._held

    def share(self, held: Held, leaving: bool) -> None:
        """Note what others hold of it, and whether it is about to leave the cluster and gets no more trials."""
        if (held, leaving) != (self._held, self._leaving):
            self._held, self._leaving = held, leaving
            self.changed()

    def changed(self) -> None:
        """Report that the room on this node may have changed."""
        self.changes[self] = None

    def has_room(self, device: Device, keep: int = 0, *, held: Held | None = None) -> bool:
        """Return whether a trial on `device` can start now, with `keep` cores left over.

        `held` is what others hold of the node; None: what the fleet last saw.
        """
        held = self._held if held is None else held
        return (
            self._ready
            and not self._leaving
            and not (self.busy and (device.exclusive_node or self._alone))
            and not (held.cpus and device.exclusive_node)
            and self._cores + held.cpus + self.node.cores_for(device) <= self.node.cpus - keep
            and self._gpus + held.gpus + device.gpus <= self.node.gpus
            and all(
                self._parts[name] + parts(held.resources.get(name, 0.0)) + parts(amount)
                <= parts(self.node.resources.get(name, 0.0))
                for name, amount in device.resources.items()
            )
        )

    def held_up(self, device: Device, keep: int = 0) -> bool:
        """Return whether a trial on `device` cannot start, but could if others held nothing of the node."""
        return bool(self._held) and self.has_room(device, keep, held=NOTHING) and not self.has_room(device, keep)

    def shares(self, device: Device) -> bool:
        """Return whether a trial on `device` needs only part of the node, while others hold part of it."""
        whole = device.exclusive_node or self.node.cores_for(device) == self.node.cpus
        return bool(self._held.cpus) and not whole

    def fits_beside(self, device: Device) -> bool:
        """Return whether a trial on `device`, which needs only part of the node, fits beside what others hold."""
        return self.shares(device) and self._held.cpus + self.node.cores_for(device) <= self.node.cpus

    def needs_all(self, device: Device) -> bool:
        """Return whether a trial on `device` would leave the driver no core of this node."""
        return device.exclusive_node or self.node.cores_for(device) > self.node.cpus - self.keeps

    def take(self, device: Device, *, queued: bool = False) -> None:
        """Reserve what a trial on `device` takes; `queued`: it still waits behind what others run there."""
        self._count(device, 1)
        if not queued:
            self.begin(device)

    def begin(self, device: Device) -> None:
        """Note that a trial has started that waited behind others."""
        self._mine.update(ray_amounts(device, self.node))

    def wait(self, device: Device) -> None:
        """Note that a trial turned out to be still waiting behind what others run there."""
        self._mine.subtract(ray_amounts(device, self.node))

    def give_back(self, device: Device, *, queued: bool = False) -> None:
        """Release what a trial on `device` had reserved; `queued`: it had not started."""
        self._count(device, -1)
        if not queued:
            self.wait(device)
            self._ended.update(ray_amounts(device, self.node))

    def used(self) -> Counter[str]:
        """Return the Ray resources that the sweep's own trials use, or have used since the last call."""
        used, self._ended = self._ended + self._mine, Counter()
        return used

    def _count(self, device: Device, trials: int) -> None:
        self.busy += trials
        self._alone += trials * device.exclusive_node
        self._cores += trials * self.node.cores_for(device)
        self._gpus += trials * device.gpus
        for name, amount in device.resources.items():
            self._parts[name] += trials * parts(amount)
        self.changed()


class Fleet:
    """The nodes of a sweep. This one never changes; Ray's own cluster has `sweeps.clusters.existing.nodes.RayFleet`."""

    look_every_s: float | None = None
    """Seconds between two calls of `look`; None: it is never called, as these nodes do not change."""
    revival = "restarting it"
    """What happens when all of it is `lost`, as a clause for a message."""
    wait_s = 0.0
    """How long to wait for a node when the remaining trials fit none, seconds."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.changes: dict[Slot, None] = {}
        """The nodes that have changed, joined or left since this was last emptied."""
        self.inbox = Inbox()
        """Where results of trials and answers of nodes arrive from Ray."""
        self._slots: dict[Slot, None] = {}
        self._places = 0
        for slot in slots:
            self.add(slot)

    @property
    def slots(self) -> list[Slot]:
        """All nodes, in the order in which they joined."""
        return list(self._slots)

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._slots

    def add(self, slot: Slot) -> None:
        """Add a node behind all others."""
        self._slots[slot] = None
        slot.place = self._places
        self._places += 1
        slot.changes = self.changes
        self._resized(slot)

    def remove(self, slot: Slot) -> None:
        """Remove a node; what still runs there is released on its slot as before."""
        del self._slots[slot]
        self._resized(slot)

    def _resized(self, slot: Slot) -> None:
        slot.changed()
        if len(self._slots) <= 2:  # with a second node the driver starts to keep cores for itself, and without it stops
            for other in self._slots:
                other.changed()

    def keeps(self, slot: Slot) -> int:
        """Return the number of cores that the driver keeps on that node: none if it is the only one."""
        return slot.keeps if len(self._slots) > 1 else 0

    def writing_cores(self, result: Result, slot: Slot, running: Iterable[Slot]) -> Sequence[int]:
        """Return the untimed cores on which the driver may write the result of a trial on `slot`; empty: on any."""
        kept = [self.keeps(other) for other in running if other.local]
        if not kept:
            return ()
        if slot.local:
            return tuple(result.host.get("cores", ()))
        return cores.available()[-kept[0] :] if kept[0] else ()

    @property
    def waits_for_nodes(self) -> bool:
        """Whether a request to a node has not been answered yet."""
        return False

    def heard(self, ref: Any) -> None:
        """Handle a node's answer."""

    def look(self) -> None:
        """Find out which nodes have joined and left. Raises DispatchError when the cluster is lost."""

    def lost(self) -> str | None:
        """Return why no running trial will ever report back, as a clause for a message; None: they will."""
        return None

    def cut_off(self) -> bool:
        """Return whether everything has just been `lost`: the class of Ray's error does not always show it."""
        return False

    def revive(self) -> None:
        """Make the fleet usable again after everything was `lost`. Raises DispatchError where that is impossible."""

    def needs(self, trials: Iterable[Trial]) -> None:
        """Note which trials are still to run; nodes that none of them needs may be released."""

    def suspect(self, slot: Slot) -> None:
        """Check, after a trial was lost there, that the node can take another one."""
