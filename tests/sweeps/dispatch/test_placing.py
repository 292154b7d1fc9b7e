from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.dispatch.calibration import Calibration
from sweeps.dispatch.fleet import NOTHING, Fleet, Held, Slot
from sweeps.dispatch.placing import Placing
from sweeps.dispatch.waiting import Turn, Waiting
from sweeps.machine.node import Node
from tracking.record import Result, Trial
from tracking.schema.device import Device

ONE = Trial(model="tiny", batch=1, device=Device(cpus=1))
ALL = Trial(model="tiny", batch=1)
GPU = Trial(model="tiny", batch=1, device=Device(name="gpu", kind="gpu", cpus=1, gpus=1))
ALONE = Trial(model="tiny", batch=1, device=Device(cpus=1, exclusive_node=True))


def slot(name: str, cpus: int, *, keeps: int = 0, **offers: object) -> Slot:
    node = Node(cpus=cpus, name=name, node_id=name, **offers)  # type: ignore[arg-type]
    return Slot(node, lambda: "", local=keeps > 0, keeps=keeps)


def placed(waiting: Waiting, fleet: Fleet) -> list[tuple[int, str]]:
    """Start what can be started now, and return each trial's batch with its node's name."""
    placing, started = Placing(waiting, fleet), []
    while (chosen := placing.choose()) is not None:
        turn, where = chosen
        waiting.remove(turn)
        where.take(turn.trial.device)
        started.append((turn.trial.batch, where.node.name))
    return started


def batches(trial: Trial, count: int) -> list[Trial]:
    return [replace(trial, batch=batch) for batch in range(1, count + 1)]


def test_the_node_with_the_fewest_trials_is_next() -> None:
    fleet = Fleet([slot("a", 2), slot("b", 2)])
    assert placed(Waiting(batches(ONE, 5)), fleet) == [(1, "a"), (2, "b"), (3, "a"), (4, "b")]


def test_a_trial_of_all_cores_has_those_of_its_own_node() -> None:
    fleet = Fleet([slot("a", 2), slot("b", 16)])
    assert [where.node.cores_for(ALL.device) for where in fleet.slots] == [2, 16]
    assert placed(Waiting(batches(ALL, 3)), fleet) == [(1, "a"), (2, "b")]


def test_a_device_goes_to_the_nodes_that_have_it_and_does_not_hold_up_others() -> None:
    fleet = Fleet([slot("a", 2), slot("g", 4, gpus=1, accelerator="H100", labels={"zone": "x"})])
    named = replace(GPU, device=replace(GPU.device, accelerator="H100", node_labels={"zone": "x"}))
    assert placed(Waiting([GPU, replace(named, batch=2), replace(ONE, batch=3)]), fleet) == [(1, "g"), (3, "a")]
    lacking = [replace(GPU.device, accelerator="A100"), replace(ONE.device, resources={"fast": 1.0})]
    assert placed(Waiting([replace(ONE, device=device) for device in lacking]), Fleet(fleet.slots)) == []


def test_a_trial_that_wants_a_node_alone_gets_it_alone() -> None:
    fleet = Fleet([slot("a", 4)])
    assert placed(Waiting([ALONE, replace(ONE, batch=2)]), fleet) == [(1, "a")]
    fleet.slots[0].give_back(ALONE.device)
    assert placed(Waiting([replace(ONE, batch=2), replace(ALONE, batch=3)]), fleet) == [(2, "a")]


def test_small_trials_do_not_hold_up_a_large_one_for_ever() -> None:
    fleet = Fleet([slot("a", 2)])
    small = batches(ONE, 9)
    waiting = Waiting([small[0], replace(ALL, batch=99), *small[1:]])
    assert placed(waiting, fleet) == [(1, "a")]  # the second core stays free: the large one is next
    fleet.slots[0].give_back(ONE.device)
    assert placed(waiting, fleet) == [(99, "a")]


def test_the_driver_keeps_a_core_of_its_node_while_there_are_others() -> None:
    home, other = slot("home", 2, keeps=1), slot("other", 2)
    assert placed(Waiting(batches(ONE, 9)), Fleet([home])) == [(1, "home"), (2, "home")]
    home.give_back(ONE.device)
    home.give_back(ONE.device)
    both = Fleet([home, other])
    assert placed(Waiting([ALL, ALL]), both) == [(1, "other")]
    other.give_back(ALL.device)
    assert placed(Waiting(batches(ONE, 9)), both) == [(1, "home"), (2, "other"), (3, "other")]


def test_a_trial_that_fits_nowhere_else_gets_the_drivers_whole_node() -> None:
    fleet = Fleet([slot("home", 4, keeps=1), slot("other", 2)])
    assert placed(Waiting([replace(ONE, device=Device(cpus=4))]), fleet) == [(1, "home")]


def test_a_lost_trial_goes_elsewhere_if_it_can() -> None:
    fleet = Fleet([slot("a", 1), slot("b", 1)])
    waiting = Waiting([])
    waiting.add(Turn(trial=ONE, order=0, lost=("a: it died",), avoid=frozenset({"a"})))
    assert placed(waiting, fleet) == [(1, "b")]
    waiting.add(Turn(trial=ONE, order=0, lost=("a: it died",), avoid=frozenset({"a"})))
    assert placed(waiting, fleet) == [(1, "a")]


def test_a_node_that_has_not_answered_gets_no_trials() -> None:
    fleet = Fleet([slot("a", 1)])
    fleet.slots[0].ready = False
    assert placed(Waiting([ONE]), fleet) == []
    fleet.slots[0].ready = True
    assert placed(Waiting([ONE]), fleet) == [(1, "a")]


def test_a_trial_that_waits_for_a_quiet_node_keeps_it() -> None:
    """Otherwise an endless stream of trials on another device could keep its calibration from starting."""
    fleet, calibration = Fleet([slot("a", 2)]), Calibration()
    other = replace(ONE, device=Device(name="other", cpus=1))
    _measured(calibration, other, "a")
    fleet.slots[0].take(ONE.device)
    assert Placing(Waiting([other]), fleet, calibration).choose() is not None
    assert Placing(Waiting([ONE, other]), fleet, calibration).choose() is None
    fleet.slots[0].give_back(ONE.device)
    assert Placing(Waiting([ONE, other]), fleet, calibration).choose() is not None


class Cluster:
    """A sweep on a few nodes, without Ray: what runs where, and the choice that looks at every node."""

    def __init__(self, nodes: Sequence[tuple[int, int, str]], trials: Sequence[Trial]) -> None:
        slots = [self.slot(index, *node) for index, node in enumerate(nodes)]
        self.fleet, self.calibration, self.waiting = Fleet(slots), Calibration(), Waiting(trials)
        self.placing = Placing(self.waiting, self.fleet, self.calibration)
        self.running: list[tuple[Turn, Slot, Trial | None]] = []
        self._names = itertools.count(len(slots))

    @staticmethod
    def slot(index: int, cpus: int, gpus: int, rack: str) -> Slot:
        return slot(str(index), cpus, gpus=gpus, keeps=int(index == 0), labels={"rack": rack})

    def room(self, device: Device, where: Slot) -> bool:
        keep = 0 if where.needs_all(device) else self.fleet.keeps(where)
        here = [turn.trial.device for turn, node, _ in self.running if node is where]
        if here and (device.exclusive_node or here[0].exclusive_node):
            return False
        if device.exclusive_node and where.held.cpus:
            return False
        used = where.held.cpus + sum(where.node.cores_for(other) for other in [*here, device])
        gpus = where.held.gpus + sum(other.gpus for other in [*here, device])
        return where.ready and used <= where.node.cpus - keep and gpus <= where.node.gpus

    def able(self, device: Device) -> list[Slot]:
        able = [where for where in self.fleet.slots if not where.node.misses(device)]
        others = [where for where in able if not (self.fleet.keeps(where) and where.needs_all(device))]
        return others or able

    def usable(self, trial: Trial, where: Slot) -> bool:
        calibrating = [node for _, node, first in self.running if first]
        if where in calibrating:
            return False
        if self.first(trial, where) is None:
            return True
        return not self.busy(where) and len(calibrating) < len(self.waiting)

    def first(self, trial: Trial, where: Slot) -> Trial | None:
        return None if where.shares(trial.device) else self.calibration.preceding(trial, where.node.node_id)

    def busy(self, where: Slot) -> int:
        return sum(node is where for _, node, _ in self.running)

    def plainly_chosen(self) -> tuple[Turn, Slot] | None:
        """Look at every node for every kind of trial."""
        kept: set[Slot] = set()
        for turn in self.waiting.heads():
            device = turn.trial.device
            free = [where for where in self.able(device) if self.room(device, where) and where not in kept]
            free.sort(key=self.busy)
            free.sort(key=lambda where: bool(where.held))
            free.sort(key=lambda where: where.node.node_id in turn.avoid)
            for where in free:
                if self.usable(turn.trial, where):
                    return turn, where
            if able := [where for where in self.able(device) if where.ready]:
                kept.add(min(able, key=lambda where: (bool(where.held), self.busy(where))))
        return None

    def start(self) -> int:
        """Start what can be started, check each choice, and return how many there were."""
        for count in itertools.count():
            chosen = self.placing.choose(sum(first is not None for _, _, first in self.running))
            assert chosen == self.plainly_chosen()
            if chosen is None:
                return count
            turn, where = chosen
            first = self.first(turn.trial, where)
            if first is None:
                self.waiting.remove(turn)
            where.take(self.taken(turn, first))
            self.running.append((turn, where, first))
        raise AssertionError

    @staticmethod
    def taken(turn: Turn, first: Trial | None) -> Device:
        return replace(turn.trial.device, exclusive_node=True) if first else turn.trial.device

    def end(self, index: int, *, lost: bool) -> None:
        """End one job; a lost one is tried again, elsewhere if possible."""
        turn, where, first = self.running.pop(index)
        if first is not None and not lost:
            _measured(self.calibration, turn.trial, where.node.node_id)
        if first is None and lost:
            self.waiting.add(replace(turn, avoid=turn.avoid | {where.node.node_id}))
        where.give_back(self.taken(turn, first))

    def change(self, what: str, index: int) -> None:
        """Add, remove, stop or restart a node, or have others take part of one or give it back."""
        slots = self.fleet.slots
        if what == "come" or not slots:
            self.fleet.add(self.slot(next(self._names), 1 + index % 4, index % 2, "ab"[index % 2]))
        elif what == "go":
            self.fleet.remove(slots[index % len(slots)])
        elif what == "hold":
            part = NOTHING if index % 3 == 0 else Held(cpus=index % 3, gpus=index % 2)
            slots[index % len(slots)].share(part, leaving=False)
        else:
            slots[index % len(slots)].ready ^= True


def _measured(calibration: Calibration, trial: Trial, node_id: str) -> None:
    if (first := calibration.preceding(trial, node_id)) is not None:
        calibration.note(Result(trial=first, sweep_id="s", status="ok"), node_id)


TRIALS = [ONE, ALL, GPU, ALONE, *(replace(trial, precision="bfloat16") for trial in (ONE, GPU))]
TRIALS += [replace(ONE, device=Device(cpus=1, memory_mb=99)), replace(ONE, device=Device(node_labels={"rack": "a"}))]
STEPS = ("end", "end", "end", "lose", "come", "go", "ready", "hold", "hold")


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.sampled_from("ab")), min_size=1, max_size=5),
    st.lists(st.sampled_from(TRIALS), max_size=30),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 100)), max_size=60),
)
def test_the_choice_is_the_one_of_looking_at_every_node(
    nodes: list[tuple[int, int, str]], trials: list[Trial], steps: list[tuple[str, int]]
) -> None:
    cluster = Cluster(nodes, trials)
    cluster.start()
    for what, index in steps:
        if what not in ("end", "lose"):
            cluster.change(what, index)
        elif cluster.running:
            cluster.end(index % len(cluster.running), lost=what == "lose")
        cluster.start()


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.sampled_from("ab")), min_size=1, max_size=4),
    st.lists(st.sampled_from(TRIALS), max_size=30),
    st.randoms(use_true_random=False),
)
def test_no_node_gives_more_than_it_has_and_every_trial_that_fits_somewhere_runs(nodes, trials, chance) -> None:  # type: ignore[no-untyped-def]
    cluster = Cluster(nodes, [])
    fitting = [trial for trial in trials if cluster.able(trial.device)]
    cluster = Cluster(nodes, fitting)
    done = 0
    cluster.start()
    while cluster.running:
        for one in cluster.fleet.slots:
            here = [turn.trial.device for turn, where, _ in cluster.running if where is one]
            assert sum(one.node.cores_for(device) for device in here) <= one.node.cpus
            assert sum(device.gpus for device in here) <= one.node.gpus
            assert len(here) <= 1 or not any(device.exclusive_node for device in here)
        index = chance.randrange(len(cluster.running))
        done += cluster.running[index][2] is None
        cluster.end(index, lost=False)
        cluster.start()
    assert done == len(fitting)


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_choice_looks_only_at_nodes_that_have_changed(calibrated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [_looks(nodes, calibrated, monkeypatch) for nodes in (20, 200)]
    assert looks[0] == looks[1]


def _looks(nodes: int, calibrated: bool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how often nodes are checked while a full cluster takes the next ten trials, one at a time."""
    trials = [replace(trial, batch=batch) for batch in range(1, 40 * nodes) for trial in (ONE, GPU)]
    cluster = Cluster([(4, 1, "a")] * nodes, [])
    for trial in trials:
        cluster.waiting.add(Turn(trial=trial, order=0))
    if calibrated:
        for where, trial in itertools.product(cluster.fleet.slots, (ONE, GPU)):
            _measured(cluster.calibration, trial, where.node.node_id)
    monkeypatch.setattr(cluster, "plainly_chosen", lambda: chosen[-1])
    chosen: list[tuple[Turn, Slot] | None] = []
    choose = cluster.placing.choose

    def recorded(calibrating: int = 0) -> tuple[Turn, Slot] | None:
        chosen.append(choose(calibrating))
        return chosen[-1]

    monkeypatch.setattr(cluster.placing, "choose", recorded)
    cluster.start()
    calls = {"has_room": 0, "misses": 0}
    has_room, misses = Slot.has_room, Node.misses

    def room(self: Slot, device: Device, keep: int = 0) -> bool:
        calls["has_room"] += 1
        return has_room(self, device, keep)

    def missing(self: Node, device: Device) -> list[str]:
        calls["misses"] += 1
        return misses(self, device)

    with monkeypatch.context() as patch:
        patch.setattr(Slot, "has_room", room)
        patch.setattr(Node, "misses", missing)
        counts = []
        for _ in range(10):
            before = calls["has_room"] + calls["misses"]
            cluster.end(nodes // 2, lost=False)
            cluster.start()
            counts.append(calls["has_room"] + calls["misses"] - before)
    return counts
