"""Whether a trial that was handed to a node starts there or is taken back, with fake gates and a fake Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.fake_ray import FakeRay, Method, Ref
from sweeps.dispatch import loop
from sweeps.dispatch.calibration import Calibration
from sweeps.dispatch.fleet import NOTHING, Fleet, Held, Slot
from sweeps.dispatch.task_gate import Gate
from sweeps.dispatch.task_inbox import Inbox
from sweeps.machine.node import Node
from tests.sweeps.dispatch.dispatched import context_of, ended
from tracking.record import Result, Trial
from tracking.schema.device import Device

ONE = Trial(model="tiny", batch=1, device=Device(cpus=1))


def test_whoever_reaches_a_gate_first_wins() -> None:
    gate = Gate()
    assert gate.enter("a")
    assert gate.take_back(["a", "b"]) == {"a"}
    assert not gate.enter("b")
    assert gate.started(["a", "b", "c"]) == {"a"}


class Doors:
    """The driver's handle of a node's gate."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.started = Method(self.gate.started)
        self.take_back = Method(self.gate.take_back)


class Shared(Fleet):
    """Nodes of one core, of which others hold those that the test names for each look."""

    look_every_s = 0.0

    def __init__(self, names: str, looks: Sequence[tuple[str, str]]) -> None:
        """`looks`: for each look, the nodes that seem held and those that are; the last one is repeated."""
        super().__init__(Slot(Node(cpus=1, name=name, node_id=name), lambda: "", local=False) for name in names)
        for slot in self.slots:
            slot.gate = Doors()
        self._looks = list(looks)
        self.holders = ""
        self.look()

    def look(self) -> None:
        seems, self.holders = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        for slot in self.slots:
            slot.share(Held(cpus=1) if slot.node.name in seems else NOTHING, leaving=False)


class HeldRay(FakeRay):
    """A Ray on which a task starts only on a node that nobody holds, and asks there whether it may."""

    def __init__(self, fleet: Shared | Partly) -> None:
        super().__init__(ended)
        self._fleet = fleet

    def next(self, timeout_s: float | None) -> Any | None:
        del timeout_s
        for ref in list(self.running):
            gate, token = ref.others
            if ref.place.node.name not in self._fleet.holders:
                self.running.remove(ref)
                result = ended(ref.trial, ref.place) if gate.gate.enter(token) else None
                ref.future().set_result((result, b""))
        return Inbox.next(self, 0.001)


def run(
    fleet: Shared | Partly,
    trials: Sequence[Trial],
    folder: Path,
    ray: HeldRay | None = None,
    calibration: Calibration | None = None,
) -> tuple[list[Result], list[str], list[str]]:
    """The results, the messages about waiting, and the withdrawn trials."""
    messages: list[str] = []
    withdrawn: list[str] = []
    ray = ray or HeldRay(fleet)
    fleet.inbox = ray
    context = context_of(
        fleet,
        folder,
        calibration=calibration,
        withdrawn=lambda trial: withdrawn.append(trial.trial_id),
        held_up=lambda words: messages.append(words) if words else None,
    )
    with ray.installed():
        return list(loop.on_ray(trials, context)), messages, withdrawn


@pytest.mark.timeout(60)
def test_a_trial_behind_others_moves_to_the_node_that_is_free_first(tmp_path: Path) -> None:
    fleet = Shared("ab", [("ab", "ab")] * 4 + [("a", "a")])
    results, messages, withdrawn = run(fleet, [ONE, replace(ONE, batch=2)], tmp_path)
    assert sorted(result.trial.batch for result in results) == [1, 2]
    assert {result.host["node_id"] for result in results} == {"b"}
    assert messages[0] == "2 trials (cpu 1 core) wait: other jobs of the cluster hold 2 nodes: a, b"
    assert len(withdrawn) == 1


@pytest.mark.timeout(60)
def test_a_trial_whose_node_was_taken_by_others_meanwhile_is_moved(tmp_path: Path) -> None:
    """The head reported a free node that was no longer free when the task arrived."""
    fleet = Shared("ab", [("b", "ab")] + [("ab", "ab")] * 10 + [("a", "a")])
    results, messages, withdrawn = run(fleet, [ONE], tmp_path)
    assert [result.host["node_id"] for result in results] == ["b"]
    assert withdrawn == [ONE.trial_id]
    assert messages[-1] == "1 trial (cpu 1 core) waits: other jobs of the cluster hold 1 node: a"


class CutOff(Shared):
    """A fleet whose connection is lost when the first trial is handed out, and is then restored."""

    why: str | None = None

    def cut_off(self) -> bool:
        self.why = "the connection is lost"
        return True

    def lost(self) -> str | None:
        return self.why

    def revive(self) -> None:
        self.why = None


class CutOffRay(HeldRay):
    handed_out = 0

    def remote(self, *arguments: Any) -> Ref:
        self.handed_out += 1
        if self.handed_out == 1:
            raise Exception("Ray Client is not connected.")  # as Ray raises it
        return super().remote(*arguments)


@pytest.mark.timeout(60)
def test_a_trial_that_could_not_be_handed_out_as_the_connection_was_lost_runs_on_the_next(tmp_path: Path) -> None:
    fleet = CutOff("a", [("", "")])
    results, _, _ = run(fleet, [ONE, replace(ONE, batch=2)], tmp_path, CutOffRay(fleet))
    assert [result.trial.batch for result in results] == [1, 2]


class Partly(Fleet):
    """A node of two cores, one of which others take for good as soon as a calibration is on its way."""

    look_every_s = 0.0

    def __init__(self) -> None:
        super().__init__([Slot(Node(cpus=2, name="a", node_id="a"), lambda: "", local=False)])
        self.slots[0].gate = Doors()
        self.holders = "a"

    def look(self) -> None:
        self.slots[0].share(Held(cpus=1), leaving=False)


class PartlyHeldRay(HeldRay):
    """Trials of one core fit beside others, but a calibration of the whole node does not."""

    def next(self, timeout_s: float | None) -> Any | None:
        self._fleet.holders = "" if any(ref.trial.task == "benchmark" for ref in self.running) else "a"
        return super().next(timeout_s)


@pytest.mark.timeout(60)
def test_a_calibration_that_came_behind_others_holds_up_no_trial_that_has_room_beside_them(tmp_path: Path) -> None:
    fleet = Partly()
    results, _, _ = run(fleet, [ONE], tmp_path, PartlyHeldRay(fleet), Calibration())
    assert [(result.trial, result.status) for result in results] == [(ONE, "ok")]
