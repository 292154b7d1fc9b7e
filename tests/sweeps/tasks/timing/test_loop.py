from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterator

import pytest

from sweeps.tasks.timing.loop import Timed, measure
from tracking.analysis.doubts import step_reasons
from tracking.schema.protocols import Adaptive, Classic, Protocol


class Machine:
    """A machine whose steps take the given seconds, on a clock of its own."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.pending = 0.0
        self.events: list[str] = []

    def step(self) -> str:
        self.pending = next(self.seconds)  # an asynchronous device: the work is done when it is waited for
        self.events.append("step")
        return "output"

    def sync(self) -> None:
        self.now += self.pending
        self.pending = 0.0

    def time(self, protocol: Protocol) -> Timed:
        return measure(
            self.step,
            protocol,
            sync=self.sync,
            clock=lambda: self.now,
            before_steps=lambda: self.events.append("before"),
        )


def forever(*head: float, then: float) -> Iterator[float]:
    yield from head
    while True:
        yield then


def test_classic_keeps_the_first_call_the_warm_up_and_the_steps_apart() -> None:
    machine = Machine(iter([9.0, 3.0, 2.0, 1.0, 1.5, 1.25]))
    assert machine.time(Classic(burn_in=2, steps=3)) == Timed(9.0, (3.0, 2.0), (1.0, 1.5, 1.25), "steps")
    assert machine.events == ["step"] * 3 + ["before"] + ["step"] * 3


def test_the_first_call_can_be_another_one() -> None:
    machine = Machine(iter([9.0, 1.0]))

    def first() -> str:
        machine.events.append("first")
        return machine.step()

    timed = measure(
        machine.step, Classic(burn_in=0, steps=1), sync=machine.sync, clock=lambda: machine.now, first=first
    )
    assert (timed.first_call_s, timed.step_s) == (9.0, (1.0,))
    assert machine.events == ["first", "step", "step"]


def test_a_step_is_as_long_as_the_device_needs() -> None:
    timed = Machine(forever(then=0.5)).time(Classic(burn_in=0, steps=2))
    assert timed.step_s == (0.5, 0.5)


def test_adaptive_stops_as_soon_as_the_median_is_known() -> None:
    timed = Machine(forever(5.0, then=0.1)).time(Adaptive(min_steps=12))
    assert timed.stopped == "target"
    assert len(timed.step_s) == 12


def test_adaptive_looks_long_enough_to_see_what_disturbs() -> None:
    timed = Machine(forever(then=0.01)).time(Adaptive(min_steps=12))
    assert timed.stopped == "target"
    assert sum(timed.step_s) == pytest.approx(0.3, abs=0.011)
    hurried = Machine(forever(then=0.01)).time(Adaptive(min_steps=12, max_seconds=0.15))
    assert sum(hurried.step_s) == pytest.approx(0.15, abs=0.011)


def test_adaptive_claims_no_interval_of_fewer_than_six_steps() -> None:
    timed = Machine(forever(then=1.0)).time(Adaptive(min_steps=1))
    assert (timed.stopped, len(timed.step_s)) == ("target", 6)


def test_adaptive_warms_up_until_the_step_time_has_settled() -> None:
    falling = [1.0 * 0.7**index for index in range(20)]
    timed = Machine(forever(*falling, then=0.001)).time(Adaptive(max_warmup_seconds=100))
    assert 20 < len(timed.warmup_s) < 40
    assert max(timed.step_s) == pytest.approx(0.001)


def test_warm_up_has_an_end() -> None:
    growing = (1.1**index for index in range(1000))
    timed = Machine(growing).time(Adaptive(max_warmup_seconds=30, max_seconds=1, min_steps=1))
    assert sum(timed.warmup_s[:-1]) < 30 <= sum(timed.warmup_s)


def test_adaptive_stops_at_its_budget_but_never_before_min_steps() -> None:
    noise = (1.0 if index % 2 else 3.0 for index in range(10_000))
    timed = Machine(noise).time(Adaptive(max_seconds=0.1, min_steps=7))
    assert timed.stopped == "max_seconds"
    assert len(timed.step_s) == 7


def test_adaptive_stops_when_noise_has_stopped_shrinking() -> None:
    two_speeds = (1.0 + 0.06 * (index % 2) for index in range(100_000))
    timed = Machine(two_speeds).time(Adaptive(max_seconds=1000, max_steps=20_000))
    assert timed.stopped == "noise"


def test_noise_of_a_moment_is_not_looked_at_less_long_than_a_known_median() -> None:
    two_speeds = (0.002 + 0.00012 * (index % 2) for index in range(100_000))
    timed = Machine(two_speeds).time(Adaptive(max_seconds=2))
    assert timed.stopped == "noise"
    assert 0.3 <= sum(timed.step_s) < 0.4


def drifting(change: float, count: int, step_s: float) -> Iterator[float]:
    """Steps that change by this share over so many of them, with a little noise, and keep to that afterwards."""
    for index in itertools.count():
        yield step_s * (1 + change * min(1.0, index / count)) * (1 + 0.001 * (index % 3))


@pytest.mark.parametrize(("change", "count", "step_s"), [(0.06, 28, 0.02), (-0.06, 28, 0.02), (0.05, 80, 0.004)])
def test_a_drift_is_looked_at_again_before_it_is_called_one(change: float, count: int, step_s: float) -> None:
    timed = Machine(drifting(change, count, step_s)).time(Adaptive(max_warmup_seconds=0))
    assert timed.stopped in ("target", "noise")
    assert len(timed.step_s) > count
    assert not list(step_reasons(timed.step_s))


def test_a_drift_that_goes_on_is_timed_to_the_end_and_called_one() -> None:
    timed = Machine(drifting(1.0, 400, 0.02)).time(Adaptive(max_warmup_seconds=0, max_seconds=10))
    assert timed.stopped == "max_seconds"
    assert next(step_reasons(timed.step_s)).startswith("drift: +")


def test_waves_longer_than_the_look_are_waited_for() -> None:
    waves = (0.01 * (1 + 0.1 * math.sin(index / 20)) for index in itertools.count())
    timed = Machine(waves).time(Adaptive(max_warmup_seconds=0))
    assert len(timed.step_s) > 20 * 2 * math.pi
    assert not list(step_reasons(timed.step_s))


def test_adaptive_stops_at_max_steps() -> None:
    noise = (1.0 if index % 2 else 3.0 for index in range(10_000))
    timed = Machine(noise).time(Adaptive(max_seconds=1e9, max_steps=20))
    assert timed.stopped == "max_steps"
    assert len(timed.step_s) == 20


def test_no_garbage_is_collected_while_steps_are_timed() -> None:
    seen: list[bool] = []
    assert gc.isenabled()
    measure(lambda: seen.append(gc.isenabled()), Classic(burn_in=1, steps=2), sync=lambda: None)
    assert seen == [True, False, False, False]  # the first call traces, and may make garbage
    assert gc.isenabled()


def test_the_collector_is_back_after_a_failure() -> None:
    def step(calls: list[int] = [0]) -> None:  # noqa: B006
        calls[0] += 1
        if calls[0] > 2:
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        measure(step, Classic(burn_in=0, steps=5), sync=lambda: None)
    assert gc.isenabled()


def test_progress_is_reported_between_steps() -> None:
    reported: list[tuple[int, float]] = []
    machine = Machine(iter([1.0, 2.0, 3.0]))
    measure(
        machine.step,
        Classic(burn_in=0, steps=2),
        sync=machine.sync,
        clock=lambda: machine.now,
        progress=lambda index, seconds: reported.append((index, seconds)),
    )
    assert reported == [(0, 2.0), (1, 3.0)]
