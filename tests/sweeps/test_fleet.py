from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sweeps.cores import available
from sweeps.devices import Node
from sweeps.fleet import Fleet, Slot, Turn, Waiting, choose
from tracking.record import Device, Result, Trial

ONE = Trial(model="tiny", batch=1, device=Device(cpus=1))
ALL = Trial(model="tiny", batch=1)
GPU = Trial(model="tiny", batch=1, device=Device(name="gpu", kind="gpu", cpus=1, gpus=1))
ALONE = Trial(model="tiny", batch=1, device=Device(cpus=1, exclusive_node=True))


def slot(name: str, cpus: int, *, keeps: int = 0, **offers: object) -> Slot:
    node = Node(cpus=cpus, name=name, node_id=name, **offers)  # type: ignore[arg-type]
    return Slot(node, lambda: "", local=keeps > 0, keeps=keeps)


def usable(*_: object) -> bool:
    return True


def placed(waiting: Waiting, fleet: Fleet) -> list[tuple[int, str]]:
    """Start what can be started now: each trial's batch, and its node's name."""
    found = []
    while (chosen := choose(waiting, fleet, usable)) is not None:
        turn, where = chosen
        waiting.remove(turn)
        where.take(turn.trial.device)
        found.append((turn.trial.batch, where.node.name))
    return found


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
    assert fleet.able(replace(GPU.device, accelerator="A100")) == []
    assert fleet.able(replace(ONE.device, resources={"fast": 1.0})) == []


def test_who_wants_a_node_alone_gets_it_alone() -> None:
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
    assert [where.node.name for where in both.able(ALL.device)] == ["other"]
    assert placed(Waiting(batches(ONE, 9)), both) == [(1, "home"), (2, "other"), (3, "other")]


def test_who_fits_nowhere_else_has_the_drivers_node_in_full() -> None:
    fleet = Fleet([slot("home", 4, keeps=1), slot("other", 2)])
    assert placed(Waiting([replace(ONE, device=Device(cpus=4))]), fleet) == [(1, "home")]


def test_the_driver_writes_where_nothing_is_timed() -> None:
    home, other = slot("home", 2, keeps=1), slot("other", 2)
    fleet, result = Fleet([home, other]), Result(trial=ONE, sweep_id="s", status="ok", host={"cores": [0]})
    assert fleet.writing_cores(result, other, [other]) == ()  # on the driver's machine nothing runs
    assert fleet.writing_cores(result, home, [home]) == (0,)
    assert fleet.writing_cores(result, other, [home]) == available()[-1:]
    assert Fleet([home]).writing_cores(result, home, [home]) == (0,)


def test_a_lost_trial_goes_elsewhere_if_it_can() -> None:
    fleet = Fleet([slot("a", 1), slot("b", 1)])
    waiting = Waiting([])
    waiting.add(Turn(trial=ONE, order=0, lost=("a: it died",), avoid=frozenset({"a"})))
    assert placed(waiting, fleet) == [(1, "b")]
    waiting.add(Turn(trial=ONE, order=0, lost=("a: it died",), avoid=frozenset({"a"})))
    assert placed(waiting, fleet) == [(1, "a")]


def test_a_node_that_has_to_answer_first_gets_nothing() -> None:
    fleet = Fleet([slot("a", 1)])
    fleet.slots[0].ready = False
    assert placed(Waiting([ONE]), fleet) == []
    assert fleet.able(ONE.device) == fleet.slots


def test_what_need_not_be_run_is_taken_out_in_order() -> None:
    waiting = Waiting([*batches(ONE, 3), *batches(ALL, 3)])
    dropped = list(waiting.drop(lambda trial: "large" if trial.batch > 1 else None))
    assert [(trial.batch, trial.device.cpus, why) for trial, why in dropped] == [
        (2, 1, "large"),
        (3, 1, "large"),
        (2, None, "large"),
        (3, None, "large"),
    ]
    assert len(waiting) == 2


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=4),
    st.lists(st.sampled_from([ONE, ALL, GPU, ALONE]), max_size=30),
    st.randoms(use_true_random=False),
)
def test_no_node_gives_more_than_it_has_and_every_trial_that_fits_somewhere_runs(nodes, trials, chance) -> None:  # type: ignore[no-untyped-def]
    fleet = Fleet([slot(str(i), cpus, gpus=gpus, keeps=int(i == 0)) for i, (cpus, gpus) in enumerate(nodes)])
    fitting = [trial for trial in trials if fleet.able(trial.device)]
    waiting, running, done = Waiting(fitting), [], 0
    while waiting or running:
        while (chosen := choose(waiting, fleet, usable)) is not None:
            turn, where = chosen
            waiting.remove(turn)
            where.take(turn.trial.device)
            running.append((turn.trial.device, where))
        assert running
        for one in fleet.slots:
            here = [device for device, where in running if where is one]
            assert sum(one.node.cores_for(device) for device in here) <= one.node.cpus
            assert sum(device.gpus for device in here) <= one.node.gpus
            assert len(here) <= 1 or not any(device.exclusive_node for device in here)
        device, where = running.pop(chance.randrange(len(running)))
        where.give_back(device)
        done += 1
    assert done == len(fitting)


def test_a_trial_that_waits_for_a_quiet_node_keeps_it() -> None:
    """Or a stream of trials on another device would go on for ever beside the calibration that it needs first."""
    fleet = Fleet([slot("a", 2)])
    fleet.slots[0].take(ONE.device)
    waiting = Waiting([ALONE, replace(ONE, batch=2)])
    assert choose(waiting, fleet, lambda trial, where: trial is not ALONE or not where.busy) is None
    other = replace(ONE, device=Device(name="other", cpus=1))
    assert choose(Waiting([other, ONE]), fleet, lambda trial, _: trial is not other) is None
