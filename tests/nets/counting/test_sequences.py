"""Operations of transformers, recurrent nets and 1-D convolutions, beside those that TensorFlow's profiler counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework import ops

from nets.counting import work
from nets.counting.layers import Trace, rows, totals, trace

STEPS, WIDTH = 32, 48
_MOVE_DATA = {
    *("Const", "ExpandDims", "GatherV2", "Identity", "NoOp", "Pack", "Placeholder", "ReadVariableOp", "Reshape"),
    *("ResourceGather", "ReverseV2", "SelectV2", "Split", "Squeeze", "StopGradient", "StridedSlice", "Transpose"),
    *("Unpack", "ConcatV2", "Cast", "Range"),
}

_ACTIVATIONS = {"Erfc", "Relu", "Sigmoid", "Tanh"}


def encoder(length: int = 128, width: int = 128, heads: int = 4, blocks: int = 2) -> keras.Model:
    """A transformer's encoder of tokens, with learned positions."""
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(1000, width)(tokens)
    x = layers.Add()([x, layers.Embedding(length, width)(keras.ops.arange(length)[None])])
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        inner = layers.Dense(4 * width, activation="gelu")(x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(width)(inner)]))
    return keras.Model(tokens, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def of_sequences(*parts: Any) -> keras.Model:
    x = sequence = keras.Input((STEPS, WIDTH))
    for part in parts:
        x = part(x)
    return keras.Model(sequence, x)


def profiled(traced: Trace) -> int:
    """Operations of the traced graph: TensorFlow's profile, and einsums and activations, for which it has no rule.

    Whatever else it has no rule for computes nothing.
    """
    graph = traced.function.graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    total: int = tf.compat.v1.profiler.profile(graph, cmd="scope", options=options).total_float_ops
    operations = graph.get_operations()
    known = ops._stats_registry.list()
    without = {each.type for each in operations if f"{each.type},flops" not in known}
    assert without - _MOVE_DATA <= {"Einsum", *_ACTIVATIONS}
    products = sum(_einsum(each) for each in operations if each.type == "Einsum")
    return total + products + sum(math.prod(each.outputs[0].shape) for each in operations if each.type in _ACTIVATIONS)


def _einsum(operation: Any) -> int:
    factors = operation.get_attr("equation").decode().split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for labels, tensor in zip(factors, operation.inputs, strict=True):
        sizes |= dict(zip(labels, tensor.shape, strict=True))
    return 2 * math.prod(sizes.values())


@pytest.mark.parametrize(
    "make",
    [
        encoder,
        lambda: encoder(length=512, width=64, heads=2),
        lambda: of_sequences(layers.LSTM(64, unroll=True)),
        lambda: of_sequences(layers.LSTM(64, unroll=True, return_sequences=True), layers.LSTM(32, unroll=True)),
        lambda: of_sequences(layers.GRU(64, unroll=True)),
        lambda: of_sequences(layers.GRU(64, unroll=True, reset_after=False)),
        lambda: of_sequences(layers.SimpleRNN(64, unroll=True)),
        lambda: of_sequences(layers.Bidirectional(layers.LSTM(32, unroll=True))),
        lambda: of_sequences(
            *(layers.Conv1D(64, 5, activation="relu"), layers.MaxPooling1D(2), layers.Conv1D(32, 3, strides=2)),
            *(layers.SeparableConv1D(16, 3), layers.GlobalAveragePooling1D(), layers.Dense(10)),
        ),
    ],
    ids=["encoder", "long encoder", "LSTM", "two LSTMs", "GRU", "older GRU", "SimpleRNN", "Bidirectional", "Conv1D"],
)
def test_operations_are_within_two_percent_of_tensorflows_profile(make: Callable[[], keras.Model]) -> None:
    """Recurrent layers are unrolled, since the profiler counts the body of a loop once."""
    traced = trace(make(), 2)
    assert work.forward(traced).flops == pytest.approx(profiled(traced), rel=0.02)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_a_loop_counts_all_of_its_steps(kind: Any) -> None:
    loop, unrolled = (
        [count(trace(of_sequences(kind(16, unroll=unroll)), 2, training)) for count, training in _COUNTS]
        for unroll in (False, True)
    )
    assert [each.flops for each in loop] == [each.flops for each in unrolled]
    assert None not in [each.flops for each in loop]


_COUNTS: Sequence[tuple[Callable[[Trace], work.Work], bool]] = ((work.forward, False), (work.training, True))


def test_an_encoder_is_differentiated_by_both_factors_of_every_product() -> None:
    forward, training = (count(trace(encoder(16, 8, 2), 2, training)) for count, training in _COUNTS)
    assert training.products == 3 * forward.products
    assert training.uncounted == ()


class Subclassed(keras.Model):  # type: ignore[misc]
    """The layers of `functional`, called in Python."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.embedding = layers.Embedding(100, 12)
        self.both = layers.Bidirectional(layers.LSTM(6, return_sequences=True))
        self.attention = layers.MultiHeadAttention(2, 6)
        self.norm = layers.LayerNormalization()
        self.convolution = layers.Conv1D(8, 3)
        self.gru = layers.GRU(8, return_sequences=True)
        self.pool = layers.GlobalAveragePooling1D()

    def call(self, tokens: Any) -> Any:
        x = self.both(self.embedding(tokens))
        return self.pool(self.gru(self.convolution(self.norm(self.attention(x, x)))))


def functional() -> keras.Model:
    tokens = keras.Input((20,), dtype="int32")
    return keras.Model(tokens, Subclassed().call(tokens))


def test_a_subclassed_model_counts_as_a_functional_one_of_the_same_layers() -> None:
    model = Subclassed()
    model(np.zeros((1, 20), "int32"))
    for training in (False, True):
        ours, theirs = (rows(each, 3, training) for each in (model, functional()))
        assert [(row.kind, row.flops) for row in ours] == [(row.kind, row.flops) for row in theirs]
        assert totals(ours).uncounted == ()
        assert all(row.flops for row in ours if row.kind not in ("Embedding",))


class Mixer(layers.Layer):  # type: ignore[misc]
    """A layer with a product of its own."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[1], shape[1]), name="kernel")

    def call(self, x: Any) -> Any:
        return keras.ops.einsum("bij,ik->bkj", x, self.kernel)


def test_a_layer_with_a_product_of_its_own_is_named_and_leaves_no_total() -> None:
    model = of_sequences(layers.Dense(8), Mixer(name="mixer"), layers.GRU(4))
    for count, training in _COUNTS:
        found = count(trace(model, 2, training))
        assert (found.flops, found.uncounted) == (None, ("mixer (Mixer)",))
        assert found.counted > 0
