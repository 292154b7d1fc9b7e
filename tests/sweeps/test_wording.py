from __future__ import annotations

import math

import pytest

from sweeps.wording import above, at_least, at_most, counted, duration, listed, nearest, needs


def test_values_out_of_their_range_are_named_with_their_keys() -> None:
    values = {"steps": 0, "rate": math.nan, "name": None, "good": 1}
    assert at_least("protocol.", values, {"steps": 1, "rate": 0, "name": 1, "good": 1}) == [
        "protocol.steps=0: expected at least 1. Received: 0.",
        "protocol.rate=nan: expected at least 0. Received: nan.",
    ]
    assert above("", values, {"steps": 0, "good": 0.5}) == ["steps=0: expected more than 0. Received: 0."]
    assert at_most("", values, {"good": 0, "steps": 0}) == ["good=1: expected at most 0. Received: 1."]


def test_the_nearest_names_are_offered_or_all_where_there_are_few() -> None:
    assert nearest("bacth", ["batch", "seed"]) == " Did you mean batch?"
    assert nearest("x", ["seed", "batch"]) == " Valid: batch, seed."
    assert nearest("x", [f"name-{number}" for number in range(13)]) == ""
    assert nearest("x", []) == ""


def test_a_setting_names_the_one_that_it_needs() -> None:
    assert needs("profile=true", "task=benchmark", "task=probe") == (
        "profile=true: expected task=benchmark with it. Received: task=probe."
    )


def test_nouns_agree_with_their_number() -> None:
    assert [counted(count, "trial") for count in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b", "c"], 3) == "a, b, c"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert listed([], 2) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (20, "20 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (7200, "2.0 h")],
)
def test_durations_have_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
