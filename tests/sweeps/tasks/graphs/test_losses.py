"""The loss that fits an output, and targets that fit the loss."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from nets import keras_names
from nets.counting import layers
from sweeps.tasks.graphs import losses
from sweeps.tasks.graphs.losses import Output


@pytest.mark.parametrize("name", sorted(keras_names.losses()))
def test_every_loss_of_keras_gets_targets_that_it_takes(name: str) -> None:
    output = Output((6, 8, 5) if name.lower() == "ctc" else (6, 5), "softmax")  # some want positive numbers
    loss = losses.named(name, output)
    target = losses.target(loss, output, seed=1)
    assert np.array_equal(target, losses.target(loss, output, seed=1))
    made = keras.ops.softmax(keras.random.normal(output.shape, seed=2))
    assert math.isfinite(np.mean(loss(target, made)))


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("sparse_categorical_crossentropy", "int32", (6, 7)),
        ("SparseCategoricalCrossentropy", "int32", (6, 7)),
        ("categorical_crossentropy", "float32", (6, 7, 5)),
        ("mse", "float32", (6, 7, 5)),
        ("binary_crossentropy", "float32", (6, 7, 5)),
    ],
)
def test_targets_have_the_form_of_their_loss(name: str, kind: str, shape: tuple[int, ...]) -> None:
    output = Output((6, 7, 5), "logits")
    target = losses.target(losses.named(name, output), output, seed=0)
    values = np.array(target)
    assert (values.dtype, values.shape) == (kind, shape)
    if kind == "int32":
        assert set(values.flat) == set(range(5))
    elif name.startswith("categorical"):
        assert np.array_equal(values.sum(axis=-1), np.ones((6, 7)))
    elif name.startswith("binary"):
        assert set(values.flat) == {0.0, 1.0}


def test_a_cross_entropy_takes_logits_where_the_output_has_them() -> None:
    for name in ("categorical_crossentropy", "SparseCategoricalCrossentropy", "bce"):
        assert losses.named(name, Output((6, 5), "logits")).from_logits
        assert losses.named(name, Output((6, 5), "values")).from_logits
        assert not losses.named(name, Output((6, 5), "softmax")).from_logits


@pytest.mark.parametrize(
    ("last", "ends_in", "loss"),
    [
        (kl.Dense(5), "logits", "SparseCategoricalCrossentropy(from_logits=True)"),
        (kl.Dense(1), "logits", "MeanSquaredError"),
        (kl.Dense(5, activation="softmax"), "softmax", "SparseCategoricalCrossentropy"),
        (kl.Dense(1, activation="sigmoid"), "sigmoid", "BinaryCrossentropy"),
        (kl.Dense(5, activation="relu"), "values", "MeanSquaredError"),
        (keras.Sequential([kl.Dense(6), kl.Reshape((2, 3))]), "logits",
         "SparseCategoricalCrossentropy(from_logits=True)"),
        (keras.Sequential([kl.Dense(5), kl.Softmax(), kl.Activation("linear", dtype="float32")]), "softmax",
         "SparseCategoricalCrossentropy"),
        (kl.LayerNormalization(), "values", "MeanSquaredError"),
    ],
    ids=str,
)  # fmt: skip
def test_what_an_output_ends_in_decides_its_loss(last: Any, ends_in: str, loss: str) -> None:
    x = keras.Input((4,))
    model = keras.Model(x, last(x))
    (output,) = losses.outputs(layers.trace(model, 3, training=True), logits=False)
    assert output.ends_in == ends_in
    assert losses.label(losses.fitting(output)) == loss


def test_losses_by_output_follow_lists_and_names() -> None:
    assert losses.by_output("mse", ["a", "b"], [0, 0]) == ["mse", "mse"]
    assert losses.by_output(["mse", "mae"], ["a", "b"], [0, 0]) == ["mse", "mae"]
    assert losses.by_output({"b": "mae", "a": "mse"}, ["a", "b"], [0, 0]) == ["mse", "mae"]
    assert losses.by_output({"b": "mae"}, [], {"b": 0, "a": 0}) == [None, "mae"]
