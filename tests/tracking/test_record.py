from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import make_result
from tracking.record import DEFAULT_PASSES, FORMAT, Result, Sweep, Trial
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement, quantile
from tracking.schema.protocols import Adaptive, Classic
from tracking.schema.reading import FormatError

TRIAL = Trial(model="vgg16", batch=4, model_args={"num_classes": 10}, protocol=Classic(steps=5))


def test_a_trial_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TRIAL.batch = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "tiny"},
        {"batch": 8},
        {"model_args": {"num_classes": 11}},
        {"target": "my.net"},
        {"weights": "w.npy"},
        {"device": Device(threads=1)},
        {"precision": "bfloat16"},
        {"compile": "xla"},
        {"passes": ("forward",)},
        {"protocol": Classic(steps=6)},
        {"protocol": Adaptive()},
        {"task_args": {"top": 5}},
        {"task": "classify"},
        {"seed": 1},
        {"repeat": 1},
        {"layout": "channels_first"},
        {"device": Device(memory_mb=512)},
        {"device": Device(gpu_memory_mb=512)},
        {"device": Device(accelerator="H100")},
        {"device": Device(node_labels={"rack": "a"})},
        {"device": Device(exclusive_node=True)},
        {"inputs": {"tokens": {"high": 100}}},
        {"path": "my.keras"},
        {"optimizer": {"name": "adam"}},
        {"loss": "mse"},
    ],
)
def test_what_affects_the_number_changes_the_id(change: dict[str, object]) -> None:
    assert replace(TRIAL, **change).trial_id != TRIAL.trial_id  # type: ignore[arg-type]


def test_every_field_but_the_time_limit_and_the_profile_is_in_the_id() -> None:
    tested = {"model", "batch", "model_args", "target", "weights", "device", "precision", "compile", "passes"}
    tested |= {"protocol", "task", "task_args", "seed", "repeat", "layout", "inputs", "path", "optimizer", "loss"}
    assert {field.name for field in fields(Trial)} - tested == {"timeout_s", "profile", "as_typed"}
    assert replace(TRIAL, timeout_s=5.0, profile=True).trial_id == TRIAL.trial_id
    there = replace(TRIAL, weights="/there/w.npy", as_typed={"model.weights": "w.npy"})
    assert there.trial_id == replace(TRIAL, weights="w.npy").trial_id
    assert "as_typed" not in TRIAL.to_json()


def test_the_id_is_the_same_in_another_process_and_in_any_order_of_arguments() -> None:
    one = replace(TRIAL, model_args={"a": 1, "b": 2})
    other = replace(TRIAL, model_args={"b": 2, "a": 1})
    code = (
        "from tracking.record import Trial; from tracking.schema.protocols import Classic; "
        "print(Trial(model='vgg16', batch=4, model_args={'a': 1, 'b': 2}, protocol=Classic(steps=5)).trial_id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert one.trial_id == other.trial_id == done.stdout.strip()


@pytest.mark.parametrize("status", ["ok", "oom", "crashed"])
def test_a_result_goes_to_json_and_back(status: str) -> None:
    result = make_result(status=status, quality=("drift",))  # type: ignore[arg-type]
    data = json.loads(json.dumps(result.to_json()))
    assert Result.from_json(data) == result
    assert data["format"] == FORMAT
    assert data["trial_id"] == result.trial_id


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner)
)


@given(st.dictionaries(st.text(), VALUES))
def test_a_trials_json_is_what_its_text_gives_back(arguments: dict[str, object]) -> None:
    trial = replace(TRIAL, model_args=arguments, as_typed={"model.weights": "w.npy"})
    assert trial.to_json() == json.loads(json.dumps(asdict(trial)))


def test_a_sweep_goes_to_json_and_back() -> None:
    sweep = Sweep(sweep_id="s", folder="/tmp/s", command="python", created_at=1.5, trials=(TRIAL,), facts={"a": [1]})
    assert Sweep.from_json(json.loads(json.dumps(sweep.to_json()))) == sweep


@pytest.mark.parametrize("record", [Result, Sweep])
def test_a_newer_format_is_refused(record: type[Result] | type[Sweep]) -> None:
    with pytest.raises(FormatError, match=f"Received: format={FORMAT + 1}"):
        record.from_json({"format": FORMAT + 1})


def test_each_pass_is_written_with_its_figures() -> None:
    result = make_result(batch=8)
    for name in DEFAULT_PASSES:
        written = result.to_json()["passes"][name]
        samples = result.passes[name].step_s
        assert written["step_s"] == list(samples)
        assert written["mean_s"] == pytest.approx(statistics.fmean(samples))
        assert written["sd_s"] == pytest.approx(float(np.std(samples)))
        assert written["images_per_s"] == pytest.approx(8 * len(samples) / sum(samples))


def test_a_measurement_has_samples() -> None:
    with pytest.raises(ValueError, match="at least one timed step"):
        Measurement(first_call_s=1.0, warmup_s=(), step_s=(), stopped="steps")


@given(
    st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]),
)
def test_quantile_is_numpys(samples: list[float], q: float) -> None:
    assert quantile(samples, q) == pytest.approx(float(np.quantile(samples, q)), rel=1e-9)


def test_a_device_label_says_what_differs_from_the_plain_device() -> None:
    assert Device().label == "cpu"
    assert Device(threads=1).label == "cpu 1 thread"
    assert Device(cpus=2, threads=4).label == "cpu 2 cores 4 threads"
    assert Device(name="gpu", kind="gpu", gpus=2).label == "gpu 2 gpus"
