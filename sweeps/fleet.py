"""The nodes that trials run on, as the driver sees them, and the choice of the next trial and its node.

The driver chooses the node itself, so that it knows whose cores, fork server and calibration a trial will use, and
never hands out a trial that would have to wait within Ray. Pure bookkeeping: how nodes come and go is in
`sweeps.ray_cluster`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweeps import cores
from sweeps.devices import Node
from tracking.record import Device, Result, Trial


@dataclass(frozen=True, kw_only=True)
class Held:
    """What jobs other than the sweep hold of a node, as Ray counts it."""

    cpus: float = 0.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.cpus or self.gpus or self.resources)


class Slot:
    """One node: what it has left to give. Nodes are compared by identity."""

    def __init__(self, node: Node, server: Callable[[], str], *, local: bool = True, keeps: int = 0) -> None:
        self.node = node
        self.server = server
        """Gives the address of its fork server."""
        self.local = local
        """The driver runs there, and a trial writes straight into the sweep's folder."""
        self.keeps = keeps
        """Cores that the driver keeps for itself while other nodes are there."""
        self.ready = True
        self.leaving = False
        """It is about to leave the cluster, and gets no more trials."""
        self.held = Held()
        """What others had of it when the fleet last looked."""
        self.gate: Any = None
        """Where a task asks on that node whether it may start (`sweeps.ray_gate`); None: it always may."""
        self._running: list[Device] = []
        self._queued: list[Device] = []
        self._ended: list[Device] = []

    def has_room(self, device: Device, keep: int = 0, *, held: Held | None = None) -> bool:
        """Whether a trial on `device` can start now, with `keep` cores left over.

        `held` is what others have of the node, unless it is what the fleet last saw.
        """
        held = self.held if held is None else held
        if device.exclusive_node and (self._running or held.cpus):
            return False
        if self._running and self._running[0].exclusive_node:
            return False
        used = sum(self.node.cores_for(other) for other in self._running) + held.cpus
        return (
            self.ready
            and not self.leaving
            and used + self.node.cores_for(device) <= self.node.cpus - keep
            and sum(other.gpus for other in self._running) + held.gpus + device.gpus <= self.node.gpus
            and all(
                sum(other.resources.get(name, 0.0) for other in self._running) + held.resources.get(name, 0.0) + amount
                <= self.node.resources.get(name, 0.0)
                for name, amount in device.resources.items()
            )
        )

    def needs_all(self, device: Device) -> bool:
        """Whether a trial on `device` would leave the driver no core of this node."""
        return device.exclusive_node or self.node.cores_for(device) > self.node.cpus - self.keeps

    def take(self, device: Device, *, queued: bool = False) -> None:
        """Take room for a trial; `queued`: behind what others run there."""
        self._running.append(device)
        if queued:
            self.wait(device)

    def wait(self, device: Device) -> None:
        """Take note that a trial there is still behind what others run."""
        self._queued.append(device)

    def begin(self, device: Device) -> None:
        """Take note that a trial that was behind others has started."""
        self._queued.remove(device)

    def give_back(self, device: Device, *, queued: bool = False) -> None:
        """Give back the room of a trial that has ended; `queued`: of one that had not started."""
        self._running.remove(device)
        (self._queued.remove if queued else self._ended.append)(device)

    def used(self) -> list[Device]:
        """What the sweep's own trials have had of the node since this was last called, or have now."""
        used, self._ended = [*self._ended, *self._running], []
        for device in self._queued:
            used.remove(device)
        return used

    @property
    def busy(self) -> int:
        """Trials that run there."""
        return len(self._running)


class Fleet:
    """The nodes of a sweep. This one never changes; Ray's own cluster has `sweeps.ray_cluster.RayFleet`."""

    look_every_s: float | None = None
    """How often to `look`, seconds; None: nothing changes by itself."""
    revival = "it is started again"
    """What is done when all of it was `lost`, in words."""
    wait_s = 0.0
    """How long to wait for a node when no node is left that a trial fits, seconds."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.slots = list(slots)

    def able(self, device: Device) -> list[Slot]:
        """The nodes that can take a trial on `device`, now or later.

        The driver's node takes none that needs all its cores if another one can: what the driver writes is then not
        timed.
        """
        able = [slot for slot in self.slots if not slot.node.misses(device)]
        others = [slot for slot in able if not (self.keeps(slot) and slot.needs_all(device))]
        return others or able

    def room(self, device: Device) -> list[Slot]:
        """The nodes that can take a trial on `device` now, those with the fewest trials first, shared ones last."""
        free = []
        for slot in self.able(device):
            keep = 0 if slot.needs_all(device) else self.keeps(slot)
            if slot.has_room(device, keep):
                free.append(slot)
        return sorted(free, key=lambda slot: (bool(slot.held), slot.busy))

    def keeps(self, slot: Slot) -> int:
        """Cores of that node that no trial gets: the driver's, where there are other nodes."""
        return slot.keeps if len(self.slots) > 1 else 0

    def writing_cores(self, result: Result, slot: Slot, running: Iterable[Slot]) -> Sequence[int]:
        """Cores on which the driver may write the result of a trial on `slot` without being timed; none: on any."""
        kept = [self.keeps(other) for other in running if other.local]
        if not kept:
            return ()
        if slot.local:
            return tuple(result.host.get("cores", ()))
        return cores.available()[-kept[0] :] if kept[0] else ()

    def pending(self) -> list[Any]:
        """Ray's references to what nodes have been asked and have not answered yet."""
        return []

    def heard(self, ref: Any) -> None:
        """Take a node's answer."""

    def look(self) -> None:
        """Find out which nodes have come and gone. Raises DispatchError when the cluster is lost."""

    def lost(self) -> str | None:
        """Why no trial that runs now will be heard of again, in words; None: they will."""
        return None

    def revive(self) -> None:
        """Take trials again after everything was `lost`. Raises DispatchError where that is impossible."""

    def suspect(self, slot: Slot) -> None:
        """A trial was lost there: the node is to show that it can take another one."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A trial that waits to be run."""

    trial: Trial
    order: int
    lost: tuple[str, ...] = ()
    """Where earlier tries of it were lost, and how."""
    avoid: frozenset[str] = frozenset()
    """Ids of those nodes."""


class Waiting:
    """Trials to be run: first come, first served among those that ask the same of a node."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._queues: dict[str, deque[Turn]] = defaultdict(deque)
        self._count = 0
        for trial in trials:
            self.add(Turn(trial=trial, order=0))

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, turn: Turn) -> None:
        """Put a turn behind all others."""
        self._queues[repr(turn.trial.device)].append(replace(turn, order=self._count))
        self._count += 1

    def add_first(self, turn: Turn) -> None:
        """Put a turn before all others."""
        first = min((head.order for head in self.heads()), default=0)
        self._queues[repr(turn.trial.device)].appendleft(replace(turn, order=first - 1))

    def heads(self) -> list[Turn]:
        """The first of those that ask for the same, in order."""
        return sorted((queue[0] for queue in self._queues.values() if queue), key=lambda turn: turn.order)

    def remove(self, turn: Turn) -> None:
        """Take away one of `heads`."""
        queue = self._queues[repr(turn.trial.device)]
        if queue[0] is not turn:
            raise ValueError(f"expected the first of its queue. Received: {turn}")
        queue.popleft()

    def drop(self, reason: Callable[[Trial], Any]) -> Iterator[tuple[Trial, Any]]:
        """Take away each trial that there is a reason not to run, in order, and give both."""
        dropped = []
        for device, queue in self._queues.items():
            kept: deque[Turn] = deque()
            for turn in queue:
                why = reason(turn.trial)
                if why is None:
                    kept.append(turn)
                else:
                    dropped.append((turn.order, turn.trial, why))
            self._queues[device] = kept
        for _, trial, why in sorted(dropped, key=lambda item: item[0]):
            yield trial, why


def choose(waiting: Waiting, fleet: Fleet, usable: Callable[[Trial, Slot], bool]) -> tuple[Turn, Slot] | None:
    """The next trial that can start and its node: one where it was not lost before, the one with the fewest trials.

    A trial that can have no node now keeps the least busy of those it could have: trials behind it get no room there,
    or a stream of small ones would hold up a large one for ever. `usable` has the last word on a node.
    """
    kept: set[Slot] = set()
    for turn in waiting.heads():
        device = turn.trial.device
        free = [slot for slot in fleet.room(device) if slot not in kept]
        free.sort(key=lambda slot: slot.node.node_id in turn.avoid)
        for slot in free:
            if usable(turn.trial, slot):
                return turn, slot
        if able := [slot for slot in fleet.able(device) if slot.ready]:
            kept.add(min(able, key=lambda slot: slot.busy))
    return None
