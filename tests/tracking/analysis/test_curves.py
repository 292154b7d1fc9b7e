from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.records import make_result
from tracking.analysis import curves
from tracking.record import PASSES, Result


def test_one_line_a_model_and_device_sorted_by_batch() -> None:
    results = [make_result(m, b, d) for m in ("vgg16", "alexnet") for d in ("cpu", "gpu") for b in (4, 1, 2)]
    found = curves.time_curves(results, "forward")
    assert [line.label for line in found] == ["vgg16, cpu", "vgg16, gpu", "alexnet, cpu", "alexnet, gpu"]
    assert all([point.batch for point in line.points] == [1, 2, 4] for line in found)
    assert all(point.low <= point.middle <= point.high for line in found for point in line.points)


def test_labels_hold_only_what_varies() -> None:
    devices = [make_result("vgg16", 4, device) for device in ("cpu", "gpu")]
    assert [line.label for line in curves.time_curves(devices, "forward")] == ["cpu", "gpu"]
    models = [make_result(model, 4) for model in ("vgg16", "alexnet")]
    assert [line.label for line in curves.time_curves(models, "forward")] == ["vgg16", "alexnet"]


def test_labels_differ_even_where_names_do_not() -> None:
    from tracking.schema.protocols import Classic

    results = [make_result(protocol=Classic(steps=steps)) for steps in (10, 20)]
    labels = [line.label for line in curves.time_curves(results, "forward")]
    assert len(set(labels)) == 2


def test_repeats_are_one_point_with_the_hull_of_their_intervals() -> None:
    fast, slow = make_result(mean=0.1, repeat=0), make_result(mean=0.2, repeat=1)
    (line,) = curves.time_curves([fast, slow], "forward")
    (point,) = line.points
    means = [result.passes["forward"].mean_s for result in (fast, slow)]
    assert point.middle == pytest.approx(sum(means) / 2)
    assert point.low < means[0] < means[1] < point.high


def test_a_failed_trial_is_kept_and_another_repeat_covers_it() -> None:
    (line,) = curves.time_curves([make_result(batch=4), make_result(batch=8, status="oom")], "forward")
    assert line.failed == ((8, "oom"),)
    (line,) = curves.time_curves([make_result(), make_result(status="crashed", repeat=1)], "forward")
    assert line.failed == ()
    assert len(line.points) == 1


def test_a_pass_that_was_not_requested_is_no_failure() -> None:
    failed = make_result(status="oom", passes=("forward",))
    assert curves.time_curves([failed], "forward_backward") == []


def test_a_failed_trial_keeps_the_pass_that_was_measured() -> None:
    result = make_result()
    partly = replace(result, status="oom", passes={"forward": result.passes["forward"]})
    assert curves.time_curves([partly], "forward")[0].points
    assert curves.time_curves([partly], "forward_backward")[0].failed == ((4, "oom"),)


def test_images_a_second_are_the_batch_over_the_mean() -> None:
    result = make_result(batch=8)
    (line,) = curves.rate_curves(curves.time_curves([result], "forward"))
    assert line.points[0].middle == pytest.approx(result.passes["forward"].figures(8)["images_per_s"])
    assert line.points[0].low < line.points[0].middle < line.points[0].high


def test_speedup_is_the_first_variant_over_the_others() -> None:
    results = [make_result("vgg16", b, "cpu", mean=b) for b in (1, 2, 4)]
    results += [make_result("vgg16", b, "gpu", mean=b / 20) for b in (2, 4, 8)]
    base, (line,) = curves.speedup_curves(results, "forward")
    assert base == "cpu"
    assert line.label == "gpu"
    assert [point.batch for point in line.points] == [2, 4]
    assert all(point.middle == pytest.approx(20, rel=0.05) for point in line.points)
    assert all(point.low < 20 < point.high for point in line.points)
    by_place = {(result.trial.device.name, result.trial.batch): result.trial_id for result in results}
    assert [point.trial_ids for point in line.points] == [(by_place["gpu", b], by_place["cpu", b]) for b in (2, 4)]


def test_no_speedup_between_models_or_arguments() -> None:
    results = [make_result("vgg16"), make_result("alexnet"), make_result("vgg16", model_args={"classes": 10})]
    assert curves.speedup_curves(results, "forward") == ("", [])


def test_different_bases_are_named_in_the_labels() -> None:
    results = [make_result("vgg16", device="cpu"), make_result("vgg16", device="gpu")]
    results += [make_result("alexnet", device="gpu"), make_result("alexnet", device="cpu")]
    base, found = curves.speedup_curves(results, "forward")
    assert base == ""
    assert [line.label for line in found] == ["vgg16, gpu against cpu", "alexnet, cpu against gpu"]


def test_figures_skip_results_without_them() -> None:
    assert curves.figure_curves([make_result()], lambda result: result.peak_device_mb) == []
    (line,) = curves.figure_curves([make_result(), make_result(batch=8, status="oom")], lambda r: r.peak_rss_mb)
    assert line.points[0].middle == 904
    assert line.failed == ((8, "oom"),)


def test_a_sweep_of_layouts_has_a_speedup() -> None:
    results = [
        make_result(batch=batch, layout=layout, mean=mean)
        for batch in (1, 2)
        for layout, mean in (("channels_last", 0.1), ("channels_first", 0.2))
    ]
    base, (line,) = curves.speedup_curves(results, "forward")
    assert (base, line.label) == ("cpu", "cpu channels_first")
    assert all(point.middle == pytest.approx(0.5, rel=0.05) for point in line.points)


def of_optimizers(**fields: Any) -> list[Result]:
    means = {"sgd": 0.1, "adam": 0.2}
    return [
        make_result(batch=batch, passes=PASSES, optimizer={"name": name}, mean=mean, **fields)
        for batch in (1, 2)
        for name, mean in means.items()
    ]


def test_optimizers_set_only_training_steps_apart() -> None:
    """In the other passes, trials that differ in the optimizer are repeats."""
    results = of_optimizers()
    assert [line.label for line in curves.time_curves(results, "train_step")] == ["cpu sgd", "cpu adam"]
    base, (line,) = curves.speedup_curves(results, "train_step")
    assert (base, line.label) == ("cpu sgd", "cpu adam")
    assert all(point.middle == pytest.approx(0.5, rel=0.05) for point in line.points)
    for name in PASSES[:2]:
        (line,) = curves.time_curves(results, name)
        assert [len(point.trial_ids) for point in line.points] == [2, 2]
        assert line.points[0].middle == pytest.approx(0.15 * (1 if name == "forward" else 3), rel=0.05)
        assert curves.speedup_curves(results, name) == ("", [])
        assert len(curves.figure_curves(results, lambda result: result.wall_s, name)) == 1
    losses = [make_result(passes=PASSES, loss=loss) for loss in (None, "mean_squared_error")]
    assert [len(curves.time_curves(losses, name)) for name in PASSES] == [1, 1, 2]
    assert curves.speedup_curves(losses, "train_step") == ("", [])


def test_each_length_is_a_curve_and_no_speedup() -> None:
    results = [make_result(batch=batch, inputs={"length": length}) for length in (64, 128) for batch in (1, 2)]
    lines = curves.time_curves(results, "forward")
    assert [(line.label, len(line.points)) for line in lines] == [("cpu length 64", 2), ("cpu length 128", 2)]
    assert curves.speedup_curves(results, "forward") == ("", [])


def test_tokens_a_second_are_those_of_curves_with_a_length() -> None:
    known = make_result(batch=8, inputs={"length": 64})
    results = [known, make_result(batch=8)]
    (line,) = curves.token_curves(curves.time_curves(results, "forward"), results)
    assert line.points[0].middle == pytest.approx(8 * 64 / known.passes["forward"].mean_s)
    assert line.points[0].low < line.points[0].middle < line.points[0].high
