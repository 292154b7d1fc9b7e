"""Finds, from what a net computes, whether it returns logits or probabilities, and which loss suits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

Output = Literal["logits", "probabilities", "independent"]
"""`probabilities` add up to 1 (softmax); `independent` ones are each between 0 and 1 (sigmoid)."""

IN_WORDS: dict[Output, str] = {
    "logits": "logits, which a softmax turns into probabilities",
    "probabilities": "probabilities, used as they are",
    "independent": "a separate probability for each class (sigmoid), used as it is",
}
_BY_OPERATION: dict[str, Output] = {
    "Softmax": "probabilities",
    "Sigmoid": "independent",
    "LogSoftmax": "logits",
    "MatMul": "logits",
    "BiasAdd": "logits",
}
"""By TensorFlow's type of the last operation, as the values of a sigmoid could be logits, too."""
_PICTURES = 8
_EXTREME = np.float32(1e4)
"""Factor on pictures to see whether outputs are bounded."""
_HANDED_ON = ("Identity", "Cast", "Reshape", "Squeeze", "StopGradient", "PreventGradient", "CheckNumerics")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def in_order(outputs: Any) -> list[Any]:
    """Return a net's outputs, one or several, the main one first; those of a mapping in its own order."""
    return list(outputs.values()) if isinstance(outputs, Mapping) else keras.tree.flatten(outputs)


def kinds(net: Callable[..., Any], shape: tuple[int, int, int], *, training: bool) -> tuple[Output, ...]:
    """Return the kind of each output of a net on byte pictures `[height, width, channels]`, in one of its modes.

    The operation that makes an output usually decides. Where it does not, the net is run: outputs that are nowhere
    negative and add up to 1 are probabilities; those that stay between 0 and 1 for any input are independent ones.
    """
    operations = _last_operations(net, shape, training=training)
    known = [_BY_OPERATION.get(operation) for operation in operations]
    if None not in known:
        return tuple(kind for kind in known if kind is not None)
    images = np.random.default_rng(0).integers(0, 256, (_PICTURES, *shape), np.uint8)
    with keras.StatelessScope():  # these pictures change nothing, not even a moving average
        values, extremes = (in_order(net(x, training=training)) for x in (images, images * _EXTREME))
    return tuple(kind or _by_values(*rows) for *rows, kind in zip(values, extremes, known, strict=True))


class OneVersusRest(keras.losses.Loss):  # its name becomes a scope in the graph, which may not start with an underscore
    """Binary cross-entropy of independent probabilities `[batch, classes]`, given labels `[batch]`."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels = keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")
        return keras.losses.binary_crossentropy(keras.ops.one_hot(labels, y_pred.shape[-1]), y_pred)


def loss(kind: Output) -> keras.losses.Loss:
    """Return the cross-entropy for an output of this kind, given the numbers of the true classes."""
    if kind == "independent":
        return OneVersusRest()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=kind == "logits")


def probabilities(output: Any, kind: Output) -> Any:
    """Return probabilities `[batch, classes]` in float32."""
    output = tf.cast(output, tf.float32)
    return tf.nn.softmax(output) if kind == "logits" else output


def _by_values(value: Any, extreme: Any) -> Output:
    rows, far = (keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in (value, extreme))
    sixteen_bits = keras.backend.standardize_dtype(value.dtype) in ("float16", "bfloat16")
    tolerance = 0.02 if sixteen_bits else 1e-3
    if rows.min() < -tolerance or rows.max() > 1 + tolerance:
        return "logits"
    if (np.abs(rows.sum(axis=-1) - 1) < tolerance).all():
        return "probabilities"
    bounded = far.min() >= -tolerance and far.max() <= 1 + tolerance
    # A net whose last units are dead returns constants.
    responds = rows.max() > tolerance and np.ptp([rows, far]) > 0
    return "independent" if bounded and responds else "logits"


def _last_operations(net: Callable[..., Any], shape: tuple[int, int, int], *, training: bool) -> list[str]:
    """Return TensorFlow's type of the operation that makes each output, however deeply nested its layer is."""
    function = tf.function(lambda images: in_order(net(images, training=training)), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec((None, *shape), tf.uint8)).graph
    return [_maker(tensor) for tensor in graph.outputs]


def _maker(tensor: Any) -> str:
    operation = tensor.op
    if operation.type in _HANDED_ON:
        return _maker(operation.inputs[0])
    if operation.type in _CALLS:
        inner = operation.graph._get_function(operation.get_attr("f").name)
        return _maker(inner.graph.outputs[tensor.value_index]) if inner is not None else "unknown"
    return str(operation.type)
