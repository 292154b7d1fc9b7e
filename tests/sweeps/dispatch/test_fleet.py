from __future__ import annotations

import pytest

from sweeps.dispatch.fleet import NOTHING, Fleet, Held, Slot
from sweeps.machine.cores import available
from sweeps.machine.node import Node
from tracking.record import Result, Trial
from tracking.schema.device import Device

ONE = Trial(model="tiny", batch=1, device=Device(cpus=1))


def slot(name: str, cpus: int, *, keeps: int = 0, **offers: object) -> Slot:
    node = Node(cpus=cpus, name=name, node_id=name, **offers)  # type: ignore[arg-type]
    return Slot(node, lambda: "", local=keeps > 0, keeps=keeps)


def test_the_driver_writes_where_nothing_is_timed() -> None:
    home, other = slot("home", 2, keeps=1), slot("other", 2)
    fleet, result = Fleet([home, other]), Result(trial=ONE, sweep_id="s", status="ok", host={"cores": [0]})
    assert fleet.writing_cores(result, other, [other]) == ()  # on the driver's machine nothing runs
    assert fleet.writing_cores(result, home, [home]) == (0,)
    assert fleet.writing_cores(result, other, [home]) == available()[-1:]
    assert Fleet([home]).writing_cores(result, home, [home]) == (0,)


def test_parts_of_a_resource_add_up_as_ray_counts_them() -> None:
    node, third = slot("a", 4, resources={"disk": 0.3}), Device(cpus=1, resources={"disk": 0.1})
    for _ in range(3):
        assert node.has_room(third)  # in floating point, thrice 0.1 is more than 0.3
        node.take(third)
    assert not node.has_room(third)
    assert node.has_room(ONE.device)
    node.give_back(third)
    assert node.has_room(third)


def test_what_others_hold_of_a_node_is_not_given_to_trials() -> None:
    node = slot("a", 4, gpus=2, resources={"disk": 1.0})
    gpu, disk = Device(name="gpu", kind="gpu", cpus=1, gpus=2), Device(cpus=1, resources={"disk": 0.5})
    alone = Device(cpus=1, exclusive_node=True)
    for device in (Device(cpus=3), gpu, disk, alone, Device()):
        assert node.has_room(device)
        assert not node.held_up(device)
    node.share(Held(cpus=2, gpus=1, resources={"disk": 0.6}), leaving=False)
    for device in (Device(cpus=3), gpu, disk, alone, Device()):
        assert not node.has_room(device)
        assert node.held_up(device)
    assert node.has_room(Device(cpus=2))
    node.take(Device(cpus=2))
    assert not node.has_room(ONE.device)
    node.share(NOTHING, leaving=False)
    assert node.has_room(Device(cpus=2))
    node.share(NOTHING, leaving=True)
    assert not node.has_room(ONE.device)
    assert not node.held_up(ONE.device)


def test_what_the_sweep_uses_counts_from_the_start_of_a_trial_to_one_look_after_its_end() -> None:
    node, device = slot("a", 4), Device(cpus=2)
    node.take(device, queued=True)
    assert node.used()["CPU"] == 0
    node.begin(device)
    assert node.used()["CPU"] == 2
    node.give_back(device)
    assert node.used()["CPU"] == 2  # the head may not know yet
    assert node.used()["CPU"] == 0


@pytest.mark.parametrize("change", ["take", "ready", "remove", "add", "share"])
def test_a_fleet_knows_which_nodes_have_changed(change: str) -> None:
    nodes = [slot(str(index), 2) for index in range(4)]
    fleet = Fleet(nodes)
    fleet.changes.clear()
    if change == "take":
        nodes[2].take(ONE.device)
    elif change == "ready":
        nodes[2].ready = False
    elif change == "share":
        nodes[2].share(Held(cpus=1), leaving=False)
    elif change == "remove":
        fleet.remove(nodes[2])
    else:
        nodes.append(slot("4", 2))
        fleet.add(nodes[-1])
    assert list(fleet.changes) == [nodes[-1] if change == "add" else nodes[2]]


def test_with_a_second_node_the_driver_begins_to_keep_a_core() -> None:
    home, other = slot("home", 2, keeps=1), slot("other", 2)
    fleet = Fleet([home])
    assert fleet.keeps(home) == 0
    fleet.changes.clear()
    fleet.add(other)
    assert fleet.keeps(home) == 1
    assert home in fleet.changes
    fleet.changes.clear()
    fleet.remove(other)
    assert fleet.keeps(home) == 0
    assert home in fleet.changes
