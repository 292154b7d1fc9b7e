from __future__ import annotations

from dataclasses import replace

from sweeps.plan.order import ordered, unique
from tracking.record import Trial

A, B = Trial(model="tiny", batch=1), Trial(model="tiny", batch=2)


def test_two_points_that_ask_for_the_same_number_are_one_trial() -> None:
    assert unique([A, B, replace(A, timeout_s=3.0)]) == [replace(A, timeout_s=3.0), B]


def test_without_repeats_the_order_is_the_grids() -> None:
    assert ordered([B, A], None, seed=0) == [B, A]


def test_repeats_alternate_by_default_and_by_seed() -> None:
    trials = [replace(Trial(model="tiny", batch=b), repeat=r) for b in range(1, 9) for r in range(3)]
    order = ordered(trials, None, seed=0)
    assert [trial.repeat for trial in order] == [0] * 8 + [1] * 8 + [2] * 8
    assert sorted(order, key=trials.index) == trials
    assert order == ordered(trials, "interleaved", seed=0) != ordered(trials, None, seed=1)
    assert ordered(trials, "grid", seed=0) == trials
