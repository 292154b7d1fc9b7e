from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets.lrn import LocalResponseNormalization

LAYER = {"depth_radius": 2, "alpha": 0.5, "beta": 0.75}


def image(channels: int = 7) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 3, 3, channels)).astype("float32")


def by_hand(x: np.ndarray) -> np.ndarray:
    x = x.astype("float64")
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(0, c - 2) : c + 3]
        y[..., c] = x[..., c] / (1.0 + 0.5 * (near**2).sum(axis=-1)) ** 0.75
    return y


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 1e-2), ("mixed_float16", 2e-3)]
)
def test_values_and_gradients(policy: str, tolerance: float, jit_compile: bool) -> None:
    layer = LocalResponseNormalization(**LAYER, dtype=policy)
    x = tf.constant(image())

    @tf.function(jit_compile=jit_compile)
    def run(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.nn.l2_loss(tf.cast(y, tf.float32))
        return y, tape.gradient(loss, x)

    y, gradient = run(x)
    assert y.dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.cast(y, tf.float32), by_hand(image()), atol=tolerance)
    step = np.zeros_like(image())
    step[0, 1, 1, 3] = 1e-3
    up, down = (0.5 * (by_hand(image() + sign * step) ** 2).sum() for sign in (1, -1))
    assert float(gradient[0, 1, 1, 3]) == pytest.approx((up - down) / 2e-3, rel=5e-2, abs=tolerance)


def test_layer_is_saved_and_read_back() -> None:
    layer = LocalResponseNormalization(**LAYER, name="norm1")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert layer.compute_output_shape((None, 3, 3, 7)) == (None, 3, 3, 7)
