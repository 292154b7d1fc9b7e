from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.records import make_result
from tracking.plots.roofline import draw_roofline, intensity
from tracking.record import Layer, Pass, Result

ROWS = (
    Layer(name="a", kind="Conv2D", output_shape=(4, 8), trainable_params=100, activation_bytes=1000),
    Layer(name="b", kind="Dense", output_shape=(4, 2), trainable_params=50, other_params=25, activation_bytes=200),
)


def measured(batch: int = 4, **trial_fields: object) -> Result:
    result = make_result(batch=batch, mean=1e-6, **trial_fields)  # type: ignore[arg-type]
    passes = {name: replace(measurement, flops=12_400) for name, measurement in result.passes.items()}
    return replace(result, passes=passes, layers=ROWS, limits={"peak_gflops_per_s": 100.0, "copy_gb_per_s": 10.0})


def test_intensity_is_operations_over_bytes() -> None:
    assert intensity(measured(), "forward") == pytest.approx(12_400 / (2 * 1200 + 4 * 175))
    assert intensity(measured(precision="bfloat16"), "forward") == pytest.approx(12_400 / (2 * 1200 + 2 * 175))
    assert intensity(measured(), "forward_backward") == pytest.approx(12_400 / 3 / (2 * 1200 + 4 * 175))
    updated = intensity(measured(passes=("train_step",)), "train_step")
    assert updated == pytest.approx(12_400 / (3 * (2 * 1200 + 4 * 175) + 4 * 150))


def test_without_layers_there_is_none() -> None:
    assert intensity(replace(measured(), layers=()), "forward") is None


def test_every_trial_is_a_point_under_its_devices_roof() -> None:
    figure = draw_roofline([measured(batch) for batch in (1, 2, 4)], "forward", "Roofline")
    assert figure is not None
    (axes,) = figure.axes
    roof, curve = axes.get_lines()
    assert max(roof.get_ydata()) == 100.0
    assert len(curve.get_xdata()) == 3


def test_repeats_are_one_point_and_so_are_optimizers_of_other_passes() -> None:
    fields = [{"repeat": repeat, "optimizer": {"name": name}} for repeat in (0, 1) for name in ("sgd", "adam")]
    results = [measured(batch, passes=("forward", "train_step"), **each) for each in fields for batch in (1, 2)]
    counts: dict[Pass, int] = {"forward": 1, "train_step": 2}
    for name, count in counts.items():
        figure = draw_roofline(results, name, "Roofline")
        assert figure is not None
        _, *curves = figure.axes[0].get_lines()
        assert [len(curve.get_xdata()) for curve in curves] == [2] * count


def test_the_roof_is_where_a_trial_has_been() -> None:
    low = replace(measured(), limits={"peak_gflops_per_s": 12.0, "copy_gb_per_s": 10.0})
    figure = draw_roofline([low], "forward", "Roofline")
    assert figure is not None
    roof, curve = figure.axes[0].get_lines()
    assert max(roof.get_ydata()) == max(curve.get_ydata()) > 12.0


def test_without_limits_there_is_no_picture() -> None:
    assert draw_roofline([replace(measured(), limits={})], "forward", "Roofline") is None
    assert draw_roofline([], "forward", "Roofline") is None
