from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nets
from nets.counting.layers import UNCOUNTED, input_shape, rows, totals
from nets.errors import InputError
from tracking.record import Layer


def one(layer: Any, shape: tuple[int, ...] = (8, 8, 6), batch: int = 3) -> Layer:
    """The row of a model of one layer."""
    image = keras.Input(shape)
    [row] = rows(keras.Model(image, layer(image)), batch)
    return row


def test_a_convolution() -> None:
    row = one(layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv1"))
    outputs = 3 * 4 * 4 * 4
    assert row == Layer(
        name="conv1",
        kind="Conv2D",
        output_shape=(3, 4, 4, 4),
        trainable_params=3 * 3 * 6 * 4 + 4,
        flops=outputs * (2 * 3 * 3 * 6 + 2),
        activation_bytes=4 * outputs,
    )


@pytest.mark.parametrize(
    ("layer", "flops"),
    [
        (layers.Conv2D(4, 3, use_bias=False), 36 * 4 * 2 * 9 * 6),
        (layers.Conv2D(4, 3, groups=2, use_bias=False), 36 * 4 * 2 * 9 * 3),
        (layers.Conv2D(4, 3, dilation_rate=2, use_bias=False), 16 * 4 * 2 * 9 * 6),
        (layers.DepthwiseConv2D(3, use_bias=False), 36 * 6 * 2 * 9),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 36 * 12 * (2 * 9 + 1)),
        (layers.SeparableConv2D(4, 3, use_bias=False), 36 * (6 * 2 * 9 + 4 * 2 * 6)),
        (layers.Conv2DTranspose(4, 3, strides=2, use_bias=False), 64 * 6 * 2 * 9 * 4),
        (layers.Dense(5), 64 * 5 * (2 * 6 + 1)),
        (layers.EinsumDense("abcd,de->abce", (None, 8, 5)), 64 * 5 * 2 * 6),
        (layers.EinsumDense("...d,de->...e", 5, bias_axes="e", activation="relu"), 64 * 5 * (2 * 6 + 2)),
        (layers.BatchNormalization(), 2 * 384),
        (layers.LayerNormalization(), 5 * 384),
        (layers.MaxPooling2D(2), 96 * 4),
        (layers.AveragePooling2D(3, strides=1, padding="same"), 384 * 9),
        (layers.GlobalAveragePooling2D(), 384),
        (layers.ReLU(), 384),
        (layers.Softmax(), 3 * 384),
        (layers.Flatten(), 0),
        (layers.ZeroPadding2D(1), 0),
        (layers.Dropout(0.5), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_counting_rule(layer: Any, flops: int) -> None:
    assert one(layer).flops == 3 * flops


def test_merging_layers_and_plain_operations() -> None:
    image = keras.Input((4, 4, 2))
    x = layers.Add(name="add")([image, image, image])
    x = keras.ops.tanh(x * 2.0)
    x = keras.ops.reshape(x, (-1, 32))
    table = rows(keras.Model(image, x), 2)
    assert [(row.kind, row.flops) for row in table] == [("Add", 128), ("Multiply", 64), ("Tanh", 64), ("Reshape", 0)]


def test_attention_counts_projections_scores_and_sum() -> None:
    tokens = keras.Input((10, 16))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=4, use_bias=False)
    table = rows(keras.Model(tokens, attention(tokens, tokens)), 3)
    assert totals(table).trainable_params == 4 * 16 * 8
    products = [row.flops for row in table if row.kind in ("EinsumDense", "MultiHeadAttention")]
    assert sorted(products) == sorted([*[3 * 10 * 2 * 16 * 8] * 4, 3 * 2 * 10 * 10 * (2 * (4 + 4) + 4)])


def test_nested_and_shared_layers() -> None:
    image = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 1, name="shared")
    inner_image = keras.Input((8, 8, 3))
    inner = keras.Model(inner_image, layers.Conv2D(3, 3, padding="same", name="inside")(inner_image), name="inner")
    block = keras.Sequential([layers.Dense(3, name="dense"), layers.ReLU(name="relu")])
    model = keras.Model(image, block(inner(shared(shared(image)))))
    table = rows(model, 2)
    assert [row.name for row in table] == ["shared", "shared", "inside", "dense", "relu"]
    assert [row.trainable_params for row in table] == [12, 0, 84, 12, 0]
    assert table[0].flops == table[1].flops
    assert totals(table).trainable_params == model.count_params()


class Scale(layers.Layer):  # type: ignore[misc]
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")
        self.offset = self.add_weight(shape=(shape[-1],), name="offset", trainable=False)

    def call(self, x: Any) -> Any:
        return x * self.scale + self.offset


class MyConvolution(layers.Conv2D):  # type: ignore[misc]
    pass


class Block(layers.Layer):  # type: ignore[misc]
    """A layer of layers, with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(4, 1, name="block_conv")
        self.gain = self.add_weight(shape=(), name="gain")

    def call(self, x: Any) -> Any:
        return self.gain * self.conv(x)


class Subclassed(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.parts = [layers.Conv2D(4, 3), Block()]
        self.free = self.add_weight(shape=(4,), name="free")

    def call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x + self.free


def test_a_layer_without_a_rule_is_seen() -> None:
    row = one(Scale(name="scale"))
    assert row.kind == f"Scale ({UNCOUNTED})"
    assert (row.flops, row.trainable_params, row.other_params) == (0, 6, 6)
    assert totals([row]).uncounted == ("scale",)


def test_a_subclass_of_a_counted_layer_is_counted() -> None:
    row = one(MyConvolution(4, 3, use_bias=False))
    assert (row.kind, row.flops) == ("MyConvolution (Conv2D)", 3 * 36 * 4 * 2 * 9 * 6)


def test_subclassed_models_and_layers_of_layers() -> None:
    model = Subclassed()
    with pytest.raises(InputError, match=r"Received: subclassed, a Subclassed that was not built. Set inputs.shape="):
        rows(model, 1)
    with pytest.warns(UserWarning, match="not actually built|despite not being"):  # it creates no variable
        model.build((None, 8, 8, 3))
    table = rows(model, 2)
    assert [row.kind for row in table] == [
        "Conv2D",
        "Conv2D",
        f"Block ({UNCOUNTED})",
        f"Subclassed ({UNCOUNTED})",
    ]
    assert totals(table).trainable_params == model.count_params()
    assert totals(table).uncounted == (table[2].name, "subclassed")


def test_the_model_is_left_as_it_was() -> None:
    model = nets.build("tiny")
    x = np.ones((1, 8, 8, 3), "float32")
    before = model(x).numpy()
    rows(model, 4)
    assert not any("call" in vars(layer) for layer in model.layers)
    np.testing.assert_array_equal(model(x), before)


def test_the_model_is_left_as_it_was_when_it_fails() -> None:
    class Broken(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = layers.Dense(1)

        def call(self, x: Any) -> Any:
            self.first(x)
            raise RuntimeError("no")

    model = Broken()
    model.built = True
    model._build_shapes_dict = {"input_shape": (None, 4)}
    with pytest.raises(RuntimeError, match="no"):
        rows(model, 1)
    assert "call" not in vars(model.first)


def test_batch_scales_everything_but_parameters() -> None:
    model = nets.build("vgg16", image_size=32)
    one_image, four = totals(rows(model, 1)), totals(rows(model, 4))
    assert (four.flops, four.activation_bytes) == (4 * one_image.flops, 4 * one_image.activation_bytes)
    assert four.trainable_params == one_image.trainable_params
    with pytest.raises(ValueError, match="batch=0"):
        rows(model, 0)


def test_input_shape() -> None:
    assert input_shape(nets.build("inception_v3", image_size=75)) == (75, 75, 3)
    image = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="known size"):
        input_shape(keras.Model(image, layers.ReLU()(image)))


@pytest.mark.parametrize(
    ("name", "size", "gflops"), [("vgg16", 224, 30.9), ("resnet_v2_50", 224, 7.0), ("inception_v3", 299, 11.4)]
)
def test_flops_agree_with_tensorflow_and_the_literature(name: str, size: int, gflops: float) -> None:
    """Within 0.2% of TensorFlow's profiler, which counts batch normalisation and activations otherwise or not at all.

    The literature's figures are to two or three digits: within 1.5%.
    """
    model = nets.build(name)
    counted = totals(rows(model, 1)).flops
    graph = (
        tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec([1, size, size, 3])).graph
    )
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    profile = tf.compat.v1.profiler.profile(graph, cmd="scope", options=options.with_empty_output().build())
    assert counted == pytest.approx(profile.total_float_ops, rel=0.002)
    assert counted / 1e9 == pytest.approx(gflops, rel=0.015)
