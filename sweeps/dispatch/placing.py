"""The choice of the next trial and its node.

The driver chooses the node itself, so that it knows whose cores, fork server and calibration a trial will use, and
never hands out a trial that would have to wait within Ray. A choice costs the same with ten nodes and with ten
thousand: for each kind of trial the nodes that can take it are kept in order, and only a node that has changed is
moved.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator

from sweeps.dispatch.calibration import Calibration
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.dispatch.waiting import Turn, Waiting
from sweeps.machine.node import demand
from tracking.schema.device import Device

_Rank = tuple[bool, int, int, Slot]


class _Ranking:
    """Nodes in order: unshared ones first, then by the number of trials, then in the order of joining."""

    def __init__(self) -> None:
        self._order: list[_Rank] = []
        self._ranks: dict[Slot, _Rank] = {}

    def __iter__(self) -> Iterator[_Rank]:
        return iter(self._order)

    @property
    def first(self) -> Slot | None:
        return self._order[0][-1] if self._order else None

    def put(self, slot: Slot, wanted: bool) -> None:
        """Move the node to its position or, if it is not wanted, remove it."""
        new = (bool(slot.held), slot.busy, slot.place, slot) if wanted else None
        old = self._ranks.get(slot)
        if new == old:
            return
        if old is not None:
            del self._order[bisect_left(self._order, old)]
            del self._ranks[slot]
        if new is not None:
            insort(self._order, new)
            self._ranks[slot] = new


class _Able:
    """Nodes that can take trials of one kind, now or later."""

    def __init__(self) -> None:
        self.members: set[Slot] = set()
        self.ready = _Ranking()
        self.free = _Ranking()
        """Those with room now and nothing to be measured first."""
        self.unmeasured = _Ranking()
        """Idle ones that have to be calibrated first."""

    def put(self, slot: Slot, *, able: bool, room: bool, measured: bool) -> None:
        (self.members.add if able else self.members.discard)(slot)
        self.ready.put(slot, able and slot.ready)
        self.free.put(slot, able and room and measured)
        self.unmeasured.put(slot, able and room and not measured and not slot.busy)


class _Kind:
    """The nodes for one kind of trial: those with the same demands on a node and the same calibration."""

    def __init__(self, device: Device, calibration_id: str | None) -> None:
        self._device, self._calibration_id = device, calibration_id
        self._fits: dict[str, bool] = {}
        self._rest = _Able()
        self._drivers = _Able()
        """The driver's node if a trial would take all its cores: the driver's writing would then disturb the timing."""

    @property
    def able(self) -> _Able:
        """The nodes to choose from; the driver's takes a trial that needs all its cores only if no other node can."""
        return self._rest if self._rest.members else self._drivers

    def put(self, slot: Slot, fleet: Fleet, calibration: Calibration | None) -> None:
        """Update a node that has changed."""
        able = slot in fleet and self._fit(slot)
        whole = slot.needs_all(self._device)
        room = able and slot.has_room(self._device, 0 if whole else fleet.keeps(slot))
        wanted = self._calibration_id
        measured = calibration is None or wanted is None or calibration.is_done(wanted, slot.node.node_id)
        measured = measured or slot.shares(self._device)
        drivers = whole and fleet.keeps(slot) > 0
        self._rest.put(slot, able=able and not drivers, room=room, measured=measured)
        self._drivers.put(slot, able=able and drivers, room=room, measured=measured)

    def _fit(self, slot: Slot) -> bool:
        offer = slot.node.offer
        if offer not in self._fits:
            self._fits[offer] = not slot.node.misses(self._device)
        return self._fits[offer]


class Placing:
    """Chooses the next trial and its node. A calibration has its node to itself."""

    def __init__(self, waiting: Waiting, fleet: Fleet, calibration: Calibration | None = None) -> None:
        self._waiting, self._fleet, self._calibration = waiting, fleet, calibration
        self._kinds: dict[tuple[str, str | None], _Kind] = {}
        self._kind_of: dict[tuple[str, str, str], _Kind] = {}
        fleet.changes.clear()

    def choose(self, calibrating: int = 0) -> tuple[Turn, Slot] | None:
        """Return the next trial that can start, and the least busy node for it, if possible none that it should avoid.

        A trial that fits nowhere now reserves the least busy of its nodes: trials behind it get no room there, or a
        stream of small ones would hold up a large one for ever. A calibration needs a node on which nothing runs;
        `calibrating` is the number of nodes being calibrated now, which never exceeds the number of waiting trials.
        """
        for changed in self._fleet.changes:
            for kind in self._kinds.values():
                kind.put(changed, self._fleet, self._calibration)
        self._fleet.changes.clear()
        reserved: set[Slot] = set()
        for turn in self._waiting.heads():
            able = self._kind(turn).able
            rankings = [able.free, able.unmeasured] if calibrating < len(self._waiting) else [able.free]
            if (slot := _first(rankings, reserved, turn.avoid)) is not None:
                return turn, slot
            if (least := able.ready.first) is not None:
                reserved.add(least)
        return None

    def held_up(self, turn: Turn) -> list[Slot]:
        """Return the nodes on which the trial could start if others held nothing of them, checking every node."""
        device = turn.trial.device
        able = sorted(self._kind(turn).able.members, key=lambda slot: slot.place)
        return [slot for slot in able if slot.held_up(device, self._keep(slot, device))]

    def fits_beside(self, turn: Turn, slot: Slot) -> bool:
        """Return whether the trial could start beside what others hold of the node, if the sweep ran nothing there."""
        return slot in self._kind(turn).able.members and slot.fits_beside(turn.trial.device)

    def room(self, turn: Turn) -> list[Slot]:
        """Return the nodes that have room for the trial now, checking every node."""
        device = turn.trial.device
        able = sorted(self._kind(turn).able.members, key=lambda slot: slot.place)
        return [slot for slot in able if slot.has_room(device, self._keep(slot, device))]

    def _keep(self, slot: Slot, device: Device) -> int:
        return 0 if slot.needs_all(device) else self._fleet.keeps(slot)

    def _kind(self, turn: Turn) -> _Kind:
        trial = turn.trial
        traits = (turn.demand, trial.precision, trial.task)
        if traits not in self._kind_of:
            calibration_id = self._calibration.needed(trial) if self._calibration else None
            key = (demand(trial.device), calibration_id)
            if key not in self._kinds:
                self._kinds[key] = _Kind(trial.device, calibration_id)
                for slot in self._fleet.slots:
                    self._kinds[key].put(slot, self._fleet, self._calibration)
            self._kind_of[traits] = self._kinds[key]
        return self._kind_of[traits]


def _first(rankings: list[_Ranking], reserved: set[Slot], avoid: frozenset[str]) -> Slot | None:
    """Return the first node that is not reserved for another trial; a node to avoid only if there is no other."""
    last_resort: Slot | None = None
    for *_, slot in heapq.merge(*rankings):
        if slot in reserved:
            continue
        if slot.node.node_id not in avoid:
            return slot
        last_resort = last_resort or slot
    return last_resort
