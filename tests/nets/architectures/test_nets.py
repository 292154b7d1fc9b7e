"""Parameters and shapes as the articles print them, or as they follow from the articles, without computing anything."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import nets
from nets.counting.layers import rows, totals

TRAINABLE = {
    "alexnet": 60_965_224,
    "alexnet_conv": 2_469_696,
    "vgg16": 138_357_544,
    "inception_v3": 27_143_152,
    "resnet_v2_50": 25_568_360,
    "resnet_v2_101": 44_577_896,
    "resnet_v2_152": 60_236_904,
    "resnet_v2_200": 64_726_120,
    "tiny": 162,
}

RESNET = {
    "conv1": (112, 112, 64),
    "pool1": (56, 56, 64),
    "block1.unit_1.add": (56, 56, 256),
    "block1.unit_2.add": (56, 56, 256),
    "block1.unit_3.add": (28, 28, 256),
    "block2.unit_1.add": (28, 28, 512),
    "block3.unit_1.add": (14, 14, 1024),
    "block4.unit_1.add": (7, 7, 2048),
    "block4.unit_3.add": (7, 7, 2048),
    "postnorm": (7, 7, 2048),
    "pool5": (2048,),
    "logits": (1000,),
}

ENDPOINTS: dict[str, dict[str, tuple[int, ...]]] = {
    "alexnet": {
        "conv1": (55, 55, 96),
        "norm1": (27, 27, 96),
        "conv2": (27, 27, 256),
        "norm2": (13, 13, 256),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 384),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    },
    "alexnet_conv": {
        "conv1": (56, 56, 64),
        "pool1": (27, 27, 64),
        "conv2": (27, 27, 192),
        "pool2": (13, 13, 192),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 256),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
    },
    "vgg16": {
        "conv1_2": (224, 224, 64),
        "pool1": (112, 112, 64),
        "conv2_2": (112, 112, 128),
        "pool2": (56, 56, 128),
        "conv3_3": (56, 56, 256),
        "pool3": (28, 28, 256),
        "conv4_3": (28, 28, 512),
        "pool4": (14, 14, 512),
        "conv5_3": (14, 14, 512),
        "pool5": (7, 7, 512),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    },
    "inception_v3": {
        "Conv2d_1a_3x3": (149, 149, 32),
        "Conv2d_2a_3x3": (147, 147, 32),
        "Conv2d_2b_3x3": (147, 147, 64),
        "MaxPool_3a_3x3": (73, 73, 64),
        "Conv2d_3b_1x1": (73, 73, 80),
        "Conv2d_4a_3x3": (71, 71, 192),
        "MaxPool_5a_3x3": (35, 35, 192),
        "Mixed_5b": (35, 35, 256),
        "Mixed_5c": (35, 35, 288),
        "Mixed_5d": (35, 35, 288),
        "Mixed_6a": (17, 17, 768),
        "Mixed_6b": (17, 17, 768),
        "Mixed_6c": (17, 17, 768),
        "Mixed_6d": (17, 17, 768),
        "Mixed_6e": (17, 17, 768),
        "Mixed_7a": (8, 8, 1280),
        "Mixed_7b": (8, 8, 2048),
        "Mixed_7c": (8, 8, 2048),
        "Logits": (1000,),
        "AuxLogits.AvgPool_1a_5x5": (5, 5, 768),
        "AuxLogits.Conv2d_1b_1x1": (5, 5, 128),
        "AuxLogits.Conv2d_2a_5x5": (1, 1, 768),
        "AuxLogits.Logits": (1000,),
    },
    "resnet_v2_50": {**RESNET, "block2.unit_4.add": (14, 14, 512), "block3.unit_6.add": (7, 7, 1024)},
    "resnet_v2_101": {**RESNET, "block2.unit_4.add": (14, 14, 512), "block3.unit_23.add": (7, 7, 1024)},
    "resnet_v2_152": {**RESNET, "block2.unit_8.add": (14, 14, 512), "block3.unit_36.add": (7, 7, 1024)},
    "resnet_v2_200": {**RESNET, "block2.unit_24.add": (14, 14, 512), "block3.unit_36.add": (7, 7, 1024)},
    "tiny": {"conv1": (8, 8, 4), "pool1": (4,), "logits": (10,)},
}


@pytest.mark.parametrize("name", nets.names())
def test_parameters_and_endpoints(name: str) -> None:
    model = nets.build(name)
    assert model.name == name
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == TRAINABLE[name]
    for batch in (1, 32):
        table = rows(model, batch, training=True)
        shapes = {row.name: row.output_shape for row in table}
        assert len(shapes) == len(table)
        assert {layer: shapes[layer] for layer in ENDPOINTS[name]} == {
            layer: (batch, *shape) for layer, shape in ENDPOINTS[name].items()
        }
        assert totals(table).trainable_params == TRAINABLE[name]
        assert totals(table).trainable_params + totals(table).other_params == model.count_params()


def test_lrn_changes_neither_parameters_nor_shapes() -> None:
    model = nets.build("alexnet_conv", lrn=True)
    assert model.count_params() == TRAINABLE["alexnet_conv"]
    assert model.output_shape == (None, 6, 6, 256)
    assert [(n.depth_radius, n.alpha, n.beta, n.bias) for n in map(model.get_layer, ("lrn1", "lrn2"))] == [
        (4, 0.001 / 9, 0.75, 1.0)
    ] * 2
    assert model.get_layer("lrn1").input is model.get_layer("conv1").output


def test_dropout_is_for_training_only() -> None:
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    model = nets.build("vgg16", image_size=32, num_classes=5)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.5, 0.5]
    kept = model(image, training=False)
    np.testing.assert_array_equal(kept, model(image, training=False))
    assert np.abs(kept - model(image, training=True)).max() > 1e-3 * np.abs(kept).max()
    sure = nets.build("vgg16", image_size=32, num_classes=5, keep_prob=1.0)
    sure.set_weights(model.get_weights())
    np.testing.assert_allclose(sure(image, training=True), kept, rtol=1e-5, atol=1e-6)


def test_inception_runs_its_auxiliary_head_in_training_only() -> None:
    model = nets.build("inception_v3", image_size=75, num_classes=5)
    image = tf.random.stateless_normal((2, 75, 75, 3), (0, 0), stddev=0.1)
    assert model.input_shape == (None, 75, 75, 3)
    assert tuple(model(image).shape) == (2, 5)
    logits, auxiliary = model(image, training=True)
    assert (tuple(logits.shape), tuple(auxiliary.shape)) == ((2, 5), (2, 5))
    assert not any(row.name.startswith("AuxLogits") for row in rows(model, 1))
    assert any(row.name.startswith("AuxLogits") for row in rows(model, 1, training=True))


def test_inception_as_the_seed_sets_it() -> None:
    model = nets.build("inception_v3", image_size=75)
    norms = [layer for layer in model.trunk.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 94
    assert {(norm.momentum, norm.epsilon, norm.scale) for norm in norms} == {(0.9997, 0.001, False)}
    kernel = model.trunk.get_layer("Mixed_6e.Branch_0.Conv2d_0a_1x1").kernel
    assert float(np.std(kernel)) == pytest.approx(0.1 * 0.88, rel=0.02)  # of a normal cut at two deviations
    assert model.trunk.get_layer("Dropout_1b").rate == pytest.approx(0.2)


def test_resnet_as_the_seed_sets_it() -> None:
    model = nets.build("resnet_v2_50", image_size=64)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.momentum, norm.epsilon, norm.scale) for norm in norms} == {(0.997, 1e-5, True)}
    strided = [layer.name for layer in model.layers if getattr(layer, "strides", (1, 1)) == (2, 2)]
    ends = [f"block{block}.unit_{unit}" for block, unit in ((1, 3), (2, 4), (3, 6))]
    expected = {"conv1", "pool1", *(f"{end}.{part}" for end in ends for part in ("shortcut", "conv2"))}
    assert set(strided) == expected
    biased = {layer.name.split(".")[-1] for layer in model.layers if getattr(layer, "bias", None) is not None}
    assert biased == {"conv1", "shortcut", "conv3", "logits"}
    assert model.get_layer("block1.unit_1.conv1").bias is None


@pytest.mark.parametrize(
    ("name", "size"), [("tiny", 8), ("alexnet", 67), ("alexnet_conv", 67), ("inception_v3", 75), ("resnet_v2_50", 32)]
)
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_trains_in_graph_and_xla(name: str, size: int, jit_compile: bool) -> None:
    """Every trainable variable gets a finite gradient of l2_loss of every output."""
    model = nets.build(name, image_size=size, **({"lrn": True} if name == "alexnet_conv" else {}))

    @tf.function(jit_compile=jit_compile)
    def gradients(image: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.nn.l2_loss(y) for y in tf.nest.flatten(model(image, training=True))])
        return tape.gradient(loss, model.trainable_variables)  # type: ignore[no-any-return]

    image = tf.random.stateless_normal((2, size, size, 3), (0, 0), stddev=0.1)
    found = gradients(image)
    assert len(found) == len(model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", 67), ("vgg16", 32), ("inception_v3", 75), ("resnet_v2_50", 32), ("tiny", 8)]
)
def test_mixed_precision_reaches_every_layer(policy: str, name: str, size: int) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = nets.build(name, image_size=size, num_classes=4)
        table = rows(model, 2)
    finally:
        keras.config.set_dtype_policy("float32")
    whole = {row.name: row.activation_bytes for row in rows(nets.build(name, image_size=size, num_classes=4), 2)}
    assert {row.name: 2 * row.activation_bytes for row in table} == whole
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
