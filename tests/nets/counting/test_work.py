"""What a pass computes: of frozen parts, branches, stopped gradients, recurrent layers and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nets
from nets.counting import work
from nets.counting.layers import trace

CONV, DENSE = 2 * 9 * 6 * 36 * 4, 2 * 144 * 3
"""Products of a convolution of 4 filters on 8x8x6, and of a dense layer of 3 units on what comes out."""


def frozen(layer: Any) -> Any:
    layer.trainable = False
    return layer


def convolution() -> Any:
    return layers.Conv2D(4, 3, use_bias=False)


def dense(units: int = 3) -> Any:
    return layers.Dense(units, use_bias=False)


def passes(model: keras.Model, batch: int = 2) -> tuple[work.Work, work.Work]:
    return work.forward(trace(model, batch)), work.training(trace(model, batch, training=True))


def of_images(make: Callable[[Any], Any]) -> keras.Model:
    image = keras.Input((8, 8, 6))
    return keras.Model(image, make(image))


def of_sequences(make: Callable[[Any], Any]) -> keras.Model:
    sequence = keras.Input((5, 8))
    return keras.Model(sequence, make(sequence))


@pytest.mark.parametrize(
    ("make", "backward"),
    [
        (lambda x: dense()(layers.Flatten()(convolution()(x))), CONV + 2 * DENSE),
        (lambda x: dense()(layers.Flatten()(frozen(convolution())(x))), DENSE),
        (lambda x: frozen(dense())(layers.Flatten()(convolution()(x))), CONV + DENSE),
        (lambda x: dense()(keras.ops.stop_gradient(layers.Flatten()(convolution()(x)))), DENSE),
        (lambda x: dense()(layers.Flatten()(layers.ReLU()(frozen(convolution())(x)))), DENSE),
    ],
    ids=["all", "frozen below", "frozen above", "stopped", "frozen below, more between"],
)
def test_only_what_is_differentiated_counts(make: Callable[[Any], Any], backward: int) -> None:
    forward, training = passes(of_images(make))
    assert forward.products == 2 * (CONV + DENSE)
    assert training.products == 2 * (CONV + DENSE + backward)


def test_branches_are_distinguished() -> None:
    """The gradient of the frozen branch's input is nobody's, though a trained branch runs before it."""
    products = 2 * 384 * 5
    model = of_images(lambda x: layers.Add()([dense(5)(y := layers.Flatten()(x)), frozen(dense(5))(y)]))
    assert passes(model, 1)[1].products == 2 * products + products


def test_numbers_of_a_net_of_ours() -> None:
    """Three products a layer, two of the first; the rest twice."""
    model = nets.build("tiny")
    conv, pool, last = (row.flops for row in trace(model, 1, training=True).rows)
    assert passes(model, 1)[1].flops == 2 * conv + 2 * pool + 3 * last


@pytest.mark.parametrize(
    ("make", "forward", "backward"),
    [
        (lambda x: layers.LSTM(3)(x), 5 * 2 * 12 * (8 + 3), 5 * 2 * 12 * (8 + 3) + 4 * 2 * 12 * 3),
        (lambda x: layers.GRU(3)(x), 5 * 2 * 9 * (8 + 3), 5 * 2 * 9 * (8 + 3) + 4 * 2 * 9 * 3),
        (lambda x: layers.SimpleRNN(3)(x), 5 * 2 * 3 * (8 + 3), 5 * 2 * 3 * (8 + 3) + 4 * 2 * 3 * 3),
        (
            lambda x: layers.Bidirectional(layers.LSTM(3))(x),
            2 * 5 * 2 * 12 * (8 + 3),
            2 * (5 * 2 * 12 * (8 + 3) + 4 * 2 * 12 * 3),
        ),
        (lambda x: layers.Attention()([x, dense(8)(x)]), 2 * 5 * (8 * 8 + 2 * 5 * 8), 2 * 5 * (8 * 8 + 3 * 5 * 8)),
        (lambda x: dense()(layers.TimeDistributed(dense(4))(x)), 2 * 5 * (32 + 12), 2 * 5 * (32 + 24)),
        (lambda x: dense()(keras.ops.matmul(x, np.ones((8, 7), "float32"))), 2 * 5 * (56 + 21), 2 * 5 * 21),
        (lambda x: dense()(keras.ops.einsum("bij,bkj->bik", x, x)), 2 * 5 * (40 + 15), 2 * 5 * 15),
        (lambda x: dense()(layers.Dot(-1)([x, x])), 2 * 5 * (40 + 15), 2 * 5 * 15),
    ],
    ids=["LSTM", "GRU", "SimpleRNN", "Bidirectional", "Attention", "TimeDistributed", "matmul", "einsum", "Dot"],
)
def test_sequences_have_rules(make: Callable[[Any], Any], forward: int, backward: int) -> None:
    inference, training = passes(of_sequences(make), 3)
    assert (inference.products, training.products) == (3 * forward, 3 * (forward + backward))
    assert inference.flops is not None
    assert inference.flops >= inference.products


class Cell(layers.Layer):  # type: ignore[misc]
    state_size = output_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.inside = layers.Dense(3)

    def build(self, shape: Any) -> None:
        self.inside.build(shape)

    def call(self, x: Any, states: Any) -> Any:
        out = self.inside(x) + states[0]
        return out, [out]


class Function(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="function")
        self.dense = layers.Dense(3)

    @tf.function
    def call(self, x: Any) -> Any:
        return self.dense(x)


def test_what_has_no_rule_is_named_and_not_guessed() -> None:
    forward, training = passes(of_sequences(lambda x: layers.RNN(Cell(), name="mine")(x)))
    assert (forward.flops, forward.uncounted) == (None, ("mine (RNN)",))
    assert training.flops is None
    solved = passes(of_sequences(lambda x: keras.ops.solve(keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))), x)))
    assert [each.flops for each in solved] == [None, None]
    model = Function()
    model(np.zeros((1, 4), "float32"))
    inside = work.training(trace(model, 2, training=True))
    assert (inside.flops, len(inside.uncounted)) == (None, 1)  # what is differentiated in there is not followed
