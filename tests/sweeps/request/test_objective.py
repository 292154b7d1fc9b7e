from __future__ import annotations

import math

import pytest

from sweeps.errors import UsageError
from sweeps.request import objective
from tests.support.records import make_result
from tracking.record import PASSES


def test_the_value_is_the_mean_over_the_repeats() -> None:
    repeats = [make_result(batch=4, mean=mean, repeat=index) for index, mean in enumerate((0.1, 0.3))]
    rates = [result.passes["forward"].figures(4)["images_per_s"] for result in repeats]
    assert objective.value(repeats, "forward/images_per_s") == pytest.approx(sum(rates) / 2)
    medians = [result.passes["forward_backward"].median_s for result in repeats]
    assert objective.value(repeats, "forward_backward/median_s") == pytest.approx(sum(medians) / 2)


@pytest.mark.parametrize("name", objective.names())
def test_every_name_has_a_value_where_it_was_measured(name: str) -> None:
    value = objective.value([make_result(passes=PASSES, inputs={"length": 64})], name)
    assert value > 0 or (name == "memory/peak_device_mb" and math.isnan(value))


def test_a_failed_repeat_or_a_pass_that_did_not_run_has_no_value() -> None:
    assert math.isnan(objective.value([make_result(), make_result(status="oom", repeat=1)], "forward/mean_s"))
    assert math.isnan(objective.value([make_result(passes=("forward",))], "forward_backward/mean_s"))


@pytest.mark.parametrize(
    ("name", "passes", "sentence"),
    [
        ("forward/image_per_s", ("forward",), "Did you mean forward/images_per_s"),
        ("nonsense", ("forward",), "Valid: forward/first_call_s, "),
        ("forward_backward/mean_s", ("forward",), "expected forward_backward among passes"),
    ],
)
def test_an_impossible_name_is_reported_with_the_nearest(name: str, passes: tuple[str, ...], sentence: str) -> None:
    (problem,) = objective.problems(name, passes)
    with pytest.raises(UsageError, match=sentence):
        raise UsageError([problem])


def test_a_value_of_no_figure_is_refused() -> None:
    assert objective.problems(None) == objective.problems("memory/peak_rss_mb") == []
    with pytest.raises(UsageError, match="expected the name of a figure"):
        objective.value([make_result()], "forward")
