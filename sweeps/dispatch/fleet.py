"""The nodes that trials run on, as the driver sees them: what each has left to give.

Pure bookkeeping: how nodes come and go is in `sweeps.clusters.existing.nodes`, and the choice of the next trial and its
node in `sweeps.dispatch.placing`, which hears from here of every node that has changed.
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
    """One node: what it has left to give. Nodes are compared by identity.

    Whatever changes what `has_room` says or how `busy` it is has to call `changed`.
    """

    def __init__(self, node: Node, server: Callable[[], str], *, local: bool = True, keeps: int = 0) -> None:
        self.node = node
        self.server = server
        """Gives the address of its fork server."""
        self.local = local
        """The driver runs there, and a trial writes straight into the sweep's folder."""
        self.keeps = keeps
        """Cores that the driver keeps for itself while other nodes are there."""
        self.busy = 0
        """Trials that run there."""
        self.place = 0
        """Its place in its fleet: nodes that came earlier have a lower one."""
        self.changes: dict[Slot, None] = {}
        """Where it reports a change; its fleet's, once it has one."""
        self.gate: Any = None
        """Where a task asks on that node whether it may start (`sweeps.dispatch.task_gate`); None: it always may."""
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
        """What others had of it when the fleet last looked."""
        return self._held

    def share(self, held: Held, leaving: bool) -> None:
        """Take note of what others have of it, and whether it is about to leave the cluster and gets no more trials."""
        if (held, leaving) != (self._held, self._leaving):
            self._held, self._leaving = held, leaving
            self.changed()

    def changed(self) -> None:
        """Report that this node may have other room than before."""
        self.changes[self] = None

    def has_room(self, device: Device, keep: int = 0, *, held: Held | None = None) -> bool:
        """Whether a trial on `device` can start now, with `keep` cores left over.

        `held` is what others have of the node, unless it is what the fleet last saw.
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
        """Whether a trial on `device` could start if others held nothing of it."""
        return bool(self._held) and self.has_room(device, keep, held=NOTHING) and not self.has_room(device, keep)

    def never_alone(self, device: Device) -> bool:
        """Whether a trial on `device`, which needs a part of the node, is not to wait until others have left it."""
        whole = device.exclusive_node or self.node.cores_for(device) == self.node.cpus
        return bool(self._held.cpus) and not whole

    def beside(self, device: Device) -> bool:
        """Whether others leave the cores that a trial on `device` needs, which needs a part of the node."""
        return self.never_alone(device) and self._held.cpus + self.node.cores_for(device) <= self.node.cpus

    def needs_all(self, device: Device) -> bool:
        """Whether a trial on `device` would leave the driver no core of this node."""
        return device.exclusive_node or self.node.cores_for(device) > self.node.cpus - self.keeps

    def take(self, device: Device, *, queued: bool = False) -> None:
        """Set aside what a trial on `device` takes; `queued`: it is still behind what others run there."""
        self._count(device, 1)
        if not queued:
            self.begin(device)

    def begin(self, device: Device) -> None:
        """Take note that a trial that was behind others has started."""
        self._mine.update(ray_amounts(device, self.node))

    def wait(self, device: Device) -> None:
        """Take note that a trial has turned out to be still behind what others run there."""
        self._mine.subtract(ray_amounts(device, self.node))

    def give_back(self, device: Device, *, queued: bool = False) -> None:
        """Take back what a trial on `device` had; `queued`: it had not started."""
        self._count(device, -1)
        if not queued:
            self.wait(device)
            self._ended.update(ray_amounts(device, self.node))

    def used(self) -> Counter[str]:
        """What the sweep's own trials have of Ray's resources, or have had since this was last called."""
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
    """How often to `look`, seconds; None: nothing changes by itself."""
    revival = "it is started again"
    """What is done when all of it was `lost`, in words."""
    wait_s = 0.0
    """How long to wait for a node when no node is left that a trial fits, seconds."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.changes: dict[Slot, None] = {}
        """The nodes that have changed, come or gone since somebody emptied this."""
        self.inbox = Inbox()
        """Where what Ray was asked for arrives: trials and answers of nodes."""
        self._slots: dict[Slot, None] = {}
        self._places = 0
        for slot in slots:
            self.add(slot)

    @property
    def slots(self) -> list[Slot]:
        """All nodes, in the order in which they came."""
        return list(self._slots)

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._slots

    def add(self, slot: Slot) -> None:
        """Take a node in, behind all others."""
        self._slots[slot] = None
        slot.place = self._places
        self._places += 1
        slot.changes = self.changes
        self._resized(slot)

    def remove(self, slot: Slot) -> None:
        """Let a node go; what runs there still gives its room back."""
        del self._slots[slot]
        self._resized(slot)

    def _resized(self, slot: Slot) -> None:
        slot.changed()
        if len(self._slots) <= 2:  # with the second node the driver begins to keep cores of its own, without it it ends
            for other in self._slots:
                other.changed()

    def keeps(self, slot: Slot) -> int:
        """Cores of that node that no trial gets: the driver's, where there are other nodes."""
        return slot.keeps if len(self._slots) > 1 else 0

    def writing_cores(self, result: Result, slot: Slot, running: Iterable[Slot]) -> Sequence[int]:
        """Cores on which the driver may write the result of a trial on `slot` without being timed; none: on any."""
        kept = [self.keeps(other) for other in running if other.local]
        if not kept:
            return ()
        if slot.local:
            return tuple(result.host.get("cores", ()))
        return cores.available()[-kept[0] :] if kept[0] else ()

    @property
    def waits_for_nodes(self) -> bool:
        """Whether a node has been asked something and has not answered yet."""
        return False

    def heard(self, ref: Any) -> None:
        """Take a node's answer."""

    def look(self) -> None:
        """Find out which nodes have come and gone. Raises DispatchError when the cluster is lost."""

    def lost(self) -> str | None:
        """Why no trial that runs now will be heard of again, in words; None: they will."""
        return None

    def cut_off(self) -> bool:
        """Whether everything has just been `lost`, as Ray's errors that have no class of their own may mean."""
        return False

    def revive(self) -> None:
        """Take trials again after everything was `lost`. Raises DispatchError where that is impossible."""

    def needs(self, trials: Iterable[Trial]) -> None:
        """Note which trials are still to be run; nodes that none of them needs may go."""

    def suspect(self, slot: Slot) -> None:
        """A trial was lost there: the node is to show that it can take another one."""
