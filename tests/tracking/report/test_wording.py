from __future__ import annotations

import pytest

from tracking.report import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12345.6, "12,346"), (12.3456, "12.35"), (0.000123456, "0.0001235"), (-2.5, "-2.500")],
)
def test_significant_digits(value: float, text: str) -> None:
    assert wording.significant(value) == text


def test_times_have_the_unit_that_suits_them() -> None:
    assert wording.seconds(0.012345) == "12.35 ms"
    assert wording.seconds_range(0.0009, 0.0011) == "900.0 to 1,100 µs"
    assert wording.plus_minus(0.0123, 0.00056) == "12.30 ± 0.56 ms"
    assert wording.plus_minus(2.0, 0.0) == "2.000 ± 0.000 s"


@pytest.mark.parametrize(("total", "text"), [(7.4, "7 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")])
def test_durations(total: float, text: str) -> None:
    assert wording.duration(total) == text


@pytest.mark.parametrize(
    ("words", "text"),
    [(["a"], "a"), (["a", "b"], "a and b"), (list("abcd"), "a, b, c and d"), (list("abcdef"), "a, b, c and 3 more")],
)
def test_lists(words: list[str], text: str) -> None:
    assert wording.listed(words) == text
