"""The table of axes: what a row there changes everywhere."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from sweeps.plan.estimate import Estimator
from sweeps.plan.preflight import Net, key
from sweeps.plan.stopping import Ceiling
from tests.support.records import make_result, make_sweep
from tracking import axes
from tracking.analysis import curves
from tracking.analysis.frame import frame
from tracking.analysis.peaks import Peaks
from tracking.analysis.table import csv_text, table
from tracking.analysis.verdicts import differing_fields, pair_up
from tracking.axes import AXES
from tracking.names import series_names, trial_names
from tracking.record import Result, Trial
from tracking.schema.axis import Axis
from tracking.schema.device import Device
from tracking.sinks.mlflow import content, view


@dataclass(frozen=True, kw_only=True)
class Invented(Trial):
    """A trial with one axis more."""

    invented: str = "off"


@pytest.fixture
def with_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(AXES)
    rows.insert(6, Axis(name="invented", role="variant", column="text", of_peak=True))
    monkeypatch.setattr(axes, "AXES", tuple(rows))


def invented_result(invented: str, **values: Any) -> Result:
    result = make_result(**values)
    plain = {field.name: getattr(result.trial, field.name) for field in fields(Trial)}
    return replace(result, trial=Invented(**plain, invented=invented))


def both(**values: Any) -> list[Result]:
    return [invented_result(invented, mean=mean, **values) for invented, mean in (("off", 0.2), ("on", 0.1))]


@pytest.mark.usefixtures("with_invented")
def test_names_tell_its_values_apart() -> None:
    trials = [result.trial for result in both()]
    assert list(trial_names(trials).values()) == ["vgg16 b=4 off", "vgg16 b=4 on"]
    assert list(series_names(trials).values()) == ["vgg16/cpu off", "vgg16/cpu on"]
    assert list(trial_names(trials[:1]).values()) == ["vgg16 b=4"]


@pytest.mark.usefixtures("with_invented")
def test_it_sets_curves_apart_and_speedups_compare_them() -> None:
    results = [result for batch in (1, 2) for result in both(batch=batch)]
    assert [line.label for line in curves.time_curves(results, "forward")] == ["cpu off", "cpu on"]
    base, (line,) = curves.speedup_curves(results, "forward")
    assert (base, line.label) == ("cpu off", "cpu on")
    assert [point.batch for point in line.points] == [1, 2]
    assert all(point.middle == pytest.approx(2, rel=0.05) for point in line.points)


@pytest.mark.usefixtures("with_invented")
def test_tables_have_a_column_of_it() -> None:
    results = both(passes=("forward",))
    trials = [result.trial for result in results]
    rows = list(csv.DictReader(io.StringIO(csv_text(table(results, trials)))))
    assert [row["invented"] for row in rows] == ["off", "on"]
    assert frame(results, trials)["invented"].tolist() == ["off", "on"]
    assert frame(results, trials)["invented"].dtype == "string"


@pytest.mark.usefixtures("with_invented")
def test_mlflow_has_a_parameter_a_column_and_a_curve_of_it() -> None:
    results = both()
    assert content.trial_params(results[1].trial)["invented"] == "on"
    assert "params.`invented`" in json.loads(view.shared_view())["selectedColumns"]
    keys = {point.key for point in content.curves(make_sweep(results), results)}
    assert {"vgg16/cpu off/forward/mean_s", "vgg16/cpu on/forward/mean_s"} <= keys


@pytest.mark.usefixtures("with_invented")
def test_comparisons_pair_equal_values_only() -> None:
    off, on = both()
    assert [pair.name for pair in pair_up([off, on], [off, on]).pairs] == ["vgg16 b=4 off", "vgg16 b=4 on"]
    assert pair_up([off], [on]).pairs == ()
    assert differing_fields([off.trial], [on.trial]) == ["invented"]


@pytest.mark.usefixtures("with_invented")
def test_a_rate_of_one_value_is_no_estimate_of_another() -> None:
    off, on = both(device=Device(name="gpu", kind="gpu", gpus=1))
    net = Net(parameter_mb=1, activation_mb=1, largest_mb=1, forward_flops=10**9, training_flops=3 * 10**9)
    estimate = Estimator({key(off.trial): net}, [off])
    assert estimate(replace(off.trial, batch=8)) is not None
    assert estimate(replace(on.trial, batch=8)) is None


@pytest.mark.usefixtures("with_invented")
def test_peaks_and_memory_are_those_of_each_value() -> None:
    off, on = both()
    fast = replace(on, passes={"forward": replace(on.passes["forward"], flops=10**12)})
    peaks = Peaks([off, fast])
    low, high = peaks.of(off), peaks.of(fast)
    assert low is not None
    assert high is not None
    assert low.gflops_per_s < high.gflops_per_s
    assert high.where == "cpu float32 on"
    ceiling = Ceiling([invented_result("off", batch=4, status="oom")])
    assert ceiling.limit(invented_result("off", batch=8).trial) is not None
    assert ceiling.limit(invented_result("on", batch=8).trial) is None


def test_every_field_that_is_part_of_the_id_is_an_axis() -> None:
    names = [axis.name for axis in AXES]
    assert len(set(names)) == len(names)
    assert {field.name for field in fields(Trial)} - set(names) == {"timeout_s", "profile", "as_typed"}


def test_resetting_leaves_the_rest_alone() -> None:
    trial = make_result(batch=8, precision="bfloat16", layout="channels_first", repeat=2, timeout_s=5.0).trial
    assert axes.point_of(trial) == replace(trial, repeat=0, timeout_s=None)
    assert axes.line_of(trial) == replace(trial, repeat=0, timeout_s=None, batch=1)
    assert axes.question_of(trial) == Trial(model="vgg16", batch=1)
    plain = Trial(model="vgg16", batch=1)
    assert axes.line_of(plain) is plain


def test_a_rate_of_one_optimizer_is_an_estimate_of_the_passes_without_it() -> None:
    gpu = Device(name="gpu", kind="gpu", gpus=1)
    adam = make_result(device=gpu, passes=("forward", "train_step"), optimizer={"name": "adam"})
    net = Net(parameter_mb=1, activation_mb=1, largest_mb=1, forward_flops=10**9, training_flops=3 * 10**9)
    again = replace(adam.trial, batch=8)
    sgd, plain = replace(again, optimizer={"name": "sgd"}), replace(again, optimizer={}, passes=("forward",))
    estimate = Estimator({key(trial): net for trial in (again, sgd, plain)}, [adam])
    assert estimate(again) is not None
    assert estimate(sgd) is None
    assert estimate(plain) is not None


def test_optimizers_losses_and_inputs_pair_with_the_same_only() -> None:
    fields: list[dict[str, Any]] = [
        {"optimizer": {"name": "adam"}},
        {"loss": "mean_squared_error"},
        {"inputs": {"length": 64}},
        {"path": "net.keras"},
    ]
    plain = make_result(passes=("train_step",))
    for each in fields:
        other = make_result(passes=("train_step",), **each)
        assert len(pair_up([plain, other], [other, plain]).pairs) == 2
        assert pair_up([plain], [other]).pairs == ()
        assert differing_fields([plain.trial], [other.trial]) == [*each]
        same_question = axes.question_of(plain.trial) == axes.question_of(other.trial)
        assert same_question == ("optimizer" in each)


def test_mlflow_has_curves_of_optimizers_for_training_steps_only() -> None:
    results = [make_result(passes=("forward", "train_step"), optimizer={"name": name}) for name in ("sgd", "adam")]
    keys = {point.key for point in content.curves(make_sweep(results), results) if point.key.endswith("mean_s")}
    assert keys == {
        "vgg16/cpu/forward/mean_s",
        "vgg16/cpu sgd/train_step/mean_s",
        "vgg16/cpu adam/train_step/mean_s",
    }
