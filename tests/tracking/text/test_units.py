from __future__ import annotations

import pytest

from tracking.text.units import common_unit, seconds_unit


@pytest.mark.parametrize(("seconds", "unit"), [(3e-6, "µs"), (0.02, "ms"), (0.9999, "ms"), (1.0, "s"), (70.0, "s")])
def test_unit(seconds: float, unit: str) -> None:
    assert common_unit([seconds] * 3)[1] == unit


def test_the_factor_goes_with_the_unit() -> None:
    assert [factor for factor, _ in map(seconds_unit, (2.0, 2e-3, 2e-7))] == [1.0, 1e3, 1e6]


def test_the_typical_one_of_several_decides() -> None:
    assert common_unit([5.0, 2e-3, 3e-3]) == (1e3, "ms")
    assert common_unit([]) == (1.0, "s")
