"""The config group `inputs`, before any model is built."""

from __future__ import annotations

from typing import Any

import pytest

from nets import custom
from sweeps.request import input_settings

OF_USERS = {"name": "tiny", "_target_": "tests.support.models.any_kind.tokens"}


def problems(inputs: dict[str, Any], task: str = "benchmark", **model: Any) -> list[str]:
    return input_settings.problems(inputs, task, OF_USERS | model, custom.check)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"shape": [224, 224, 3]},
        {"length": 128, "high": 9},
        {"words": {"shape": [3], "low": -4, "high": 9, "dtype": "int16"}},
        {"shape": {"high": 3}},
        {"_target_": "tests.support.models.any_kind.batch"},
    ],
)
def test_what_makes_sense_is_accepted(inputs: dict[str, Any]) -> None:
    assert problems(inputs) == []


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (
            {"shape": 5},
            "inputs.shape=5: expected sizes without the batch, such as inputs.shape=[224,224,3]. Received: 5.",
        ),
        ({"shape": [0, 3]}, "inputs.shape=[0,3]: expected sizes without the batch"),
        ({"shape": [None, 3]}, "inputs.shape=[None,3]: expected sizes without the batch"),
        ({"length": 0}, "inputs.length=0: expected a whole number of at least 1. Received: 0."),
        ({"length": 1.5}, "inputs.length=1.5: expected a whole number of at least 1. Received: 1.5."),
        ({"length": True}, "inputs.length=True: expected a whole number of at least 1."),
        ({"lenght": 5}, "inputs.lenght=5: inputs has no key 'lenght'. Did you mean length?"),
        ({"dtype": "int31"}, "inputs.dtype=int31: expected a type of numbers. Did you mean int32"),
        ({"high": "many"}, "inputs.high=many: expected a whole number. Received: 'many'."),
        ({"low": 5, "high": 5}, "inputs: expected low < high, which itself is never drawn. Received: low=5 high=5."),
        ({"words": {"high": 2**70}}, f"inputs.words.high={2**70}: expected a number of at most 64 bits."),
        ({"words": {}}, "inputs.words={}: expected shape, dtype, low, high, such as +inputs.words.shape=[128]."),
        (
            {"words": {"length": 5}},
            "+inputs.words.length: expected inputs.length, for every open time axis, or +inputs.",
        ),
        ({"words": {"hihg": 5}}, "inputs.words.hihg: an input has no key 'hihg'. Did you mean high?"),
        ({"_target_": 5}, "inputs._target_=5: expected a dotted name, such as my_module.my_batch."),
        ({"_target_": "tests.support.models.any_kind.bacth"}, "has no 'bacth'. Did you mean batch or"),
        (
            {"_target_": "os.remove"},
            "inputs._target_: expected a callable of your own or of an installed package. Received: os.remove",
        ),
        ({"_target_": "tests.support.models.any_kind.batch", "length": 5}, "has no argument 'length'"),
    ],
)
def test_what_does_not_is_one_sentence(inputs: dict[str, Any], sentence: str) -> None:
    (problem,) = problems(inputs)
    assert sentence in problem


def test_everything_wrong_is_reported_at_once() -> None:
    assert len(problems({"shape": 5, "length": 0, "words": {"dtype": "x", "high": "y"}})) == 4


def test_only_models_of_the_users_own_leave_something_open() -> None:
    (problem,) = problems({"shape": [3]}, _target_=None, name="vgg16")
    assert problem.startswith(
        "inputs: expected model._target_ or model=file with it, or inputs._target_, as vgg16 takes"
    )
    assert problems({"shape": [3]}, _target_=None, name="file", path="a.keras") == []
    assert problems({"_target_": OF_USERS["_target_"].replace("tokens", "batch")}, _target_=None) == []
    (problem,) = problems({"shape": [3]}, task="classify")
    assert problem == "inputs: expected task=benchmark with it. Received: task=classify."
