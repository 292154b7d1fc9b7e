"""Batches that callables of the user's own make: what they may return, and what is fed of it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from nets.counting.layers import trace
from nets.errors import BadArguments, InputError
from nets.inputs import signature
from sweeps.tasks.graphs import batches, inputs
from tracking.record import Trial

TRIAL = Trial(model="mine", batch=4, seed=3, inputs={"_target_": "users_batches.make"})


@pytest.fixture
def users() -> Iterator[types.ModuleType]:
    """A module of the user's that can be imported."""
    module = sys.modules["users_batches"] = types.ModuleType("users_batches")
    yield module
    del sys.modules["users_batches"]


def fed(model: keras.Model, trial: Trial = TRIAL) -> inputs.Fed:
    batch = batches.of_trial(trial)
    traced = trace(model, trial.batch, inputs=signature.inputs(model, batches.given_by(trial, batch)))
    return inputs.feed(trial, traced, batch)


def returning(make: Callable[[int], Any]) -> Callable[..., Any]:
    """Return a callable as the user writes it, which makes this of the batch size."""

    def users(batch: int, seed: int) -> Any:
        del seed
        return make(batch)

    return users


def recurrent() -> keras.Model:
    each = keras.Input((None, 5), name="series")
    return keras.Model(each, layers.Dense(2)(layers.LSTM(3)(each)))


def tokens() -> keras.Model:
    each = keras.Input((None,), dtype="int32", name="words")
    return keras.Model(each, layers.Dense(2)(layers.Embedding(100, 3)(each)))


def test_what_the_callable_makes_is_fed(users: types.ModuleType) -> None:
    def make(batch: int, seed: int, length: int) -> Any:
        return np.random.default_rng(seed).normal(size=(batch, length, 5))

    users.make = make  # type: ignore[attr-defined]
    made = fed(recurrent(), replace(TRIAL, inputs={**TRIAL.inputs, "length": 6}))
    wanted = np.random.default_rng(3).normal(size=(4, 6, 5)).astype("float32")
    np.testing.assert_array_equal(made.tensors, wanted)
    assert made.facts["series"] | {"lowest": 0, "highest": 0} == {
        "dtype": "float32",
        "shape": [4, 6, 5],
        "lowest": 0,
        "highest": 0,
        "length": 6,
    }
    assert made.targets is None
    with pytest.raises(BadArguments, match="length"):
        fed(recurrent())


def test_a_tuple_of_two_is_inputs_and_targets_as_in_fit(users: types.ModuleType) -> None:
    users.make = returning(lambda n: (np.zeros((n, 6, 5)), np.arange(n)))  # type: ignore[attr-defined]
    made = fed(recurrent())
    assert made.tensors.shape == (4, 6, 5)
    np.testing.assert_array_equal(made.targets, [0, 1, 2, 3])


def test_whole_numbers_are_fed_in_the_type_that_the_model_states(users: types.ModuleType) -> None:
    users.make = returning(lambda n: np.full((n, 9), 99, "int64"))  # type: ignore[attr-defined]
    made = fed(tokens())
    assert made.tensors.dtype == tf.int32
    assert (made.facts["words"]["highest"], made.facts["words"]["length"]) == (99, 9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda n: np.full((n, 9), 100),
            r"expected a batch with numbers from 0 to 99 for words, .* Received: 100 to 100",
        ),
        (lambda n: np.full((n, 9), -1), r"expected a batch with numbers from 0 to 99 for words, .* Received: -1 to -1"),
        (lambda n: np.full((n, 9), 2**40), r"numbers from 0 to 99"),
        (lambda n: np.full((n, 9), 0.5), r"expected a batch with int32 for words. Received: float32"),
        (lambda n: np.full((n, 9), "word"), r"expected a batch with int32 for words. Received: string"),
        (lambda n: np.zeros((n + 1, 9)), r"to return 4 samples along the first axis. .* \[5, 9\]"),
        (lambda n: n - 1, r"to return 4 samples along the first axis. Received: a tensor of shape \[\]"),
        (lambda n: None if n else 0, r"expected users_batches.make to return a batch. Received: None"),
        (lambda n: (n, 2, 3), r"or a tuple of inputs and targets. Received: a tuple of 3"),
        (lambda n: tf.ragged.constant([[1], [2, 3], [n], [4]]), r"dense tensors. Received: a RaggedTensor"),
        (lambda n: object() if n else 0, r"expected users_batches.make to return arrays or dense tensors. .* a object"),
        (
            lambda n: {"words": np.zeros((n, 9))},
            r"in the structure of .* words. Received: {words: words}",
        ),
    ],
)
def test_what_the_model_does_not_take_is_never_fed(
    users: types.ModuleType, make: Callable[..., Any], words: str
) -> None:
    users.make = returning(make)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=words):
        fed(tokens())


def test_numbers_that_the_type_does_not_hold_are_refused(users: types.ModuleType) -> None:
    each = keras.Input((9,), dtype="uint8", name="picture")
    model = keras.Model(each, layers.Dense(2)(layers.Rescaling(1 / 255)(each)))
    users.make = returning(lambda n: np.full((n, 9), 300))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"numbers from 0 to 255 for picture, .* Received: 300 to 300"):
        fed(model)


def test_batches_are_channels_last_in_either_layout(users: types.ModuleType) -> None:
    users.make = returning(lambda n: np.zeros((n, 8, 6, 3)))  # type: ignore[attr-defined]
    keras.config.set_image_data_format("channels_first")
    try:
        each = keras.Input((3, 8, 6), name="image")
        made = fed(keras.Model(each, layers.ReLU()(each)), replace(TRIAL, layout="channels_first"))
    finally:
        keras.config.set_image_data_format("channels_last")
    assert made.tensors.shape == (4, 3, 8, 6)
