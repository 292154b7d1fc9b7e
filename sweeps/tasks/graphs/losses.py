"""The loss of a training step that fits a net's outputs, and targets that fit the loss.

Targets are drawn once from the trial's seed: classes in [0, width) for a sparse loss, one of `width` for a categorical
one, normal(0, 1) for squared and absolute errors, and zeros and ones in the output's shape for every other.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nets import custom
from nets.counting.layers import Trace

_RESHAPES = ("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims")
"""Operations between the last layer and the output that leave its numbers as they are."""
_CLASSES = ("sparsecategoricalcrossentropy", "categoricalgeneralizedcrossentropy", "circle")
_ONE_HOT = ("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge", "kldivergence")
_NORMAL = (
    *("meansquarederror", "meanabsoluteerror", "meanabsolutepercentageerror", "meansquaredlogarithmicerror"),
    *("huber", "logcosh", "cosinesimilarity"),
)


@dataclass(frozen=True)
class Output:
    """One output of a net in training mode."""

    shape: tuple[int, ...]
    """With the batch."""
    ends_in: str
    """`softmax`, `sigmoid`, `logits` (of a dense layer without activation), or `values`."""


def outputs(trace: Trace, *, logits: bool) -> list[Output]:
    """Return the outputs of a net that was traced in training mode, flat; `logits`: the net is known to return them."""
    dense = (keras.layers.Dense, keras.layers.EinsumDense)
    linear = {
        tensor.name
        for call in trace.calls
        if isinstance(call.part, dense) and call.part.activation is keras.activations.linear
        for tensor in call.tensors[1]
    }
    tensors = keras.tree.flatten(trace.function.structured_outputs)
    return [Output(_sizes(each, trace.batch), "logits" if logits else _end(each, linear)) for each in tensors]


def _sizes(tensor: tf.Tensor, batch: int) -> tuple[int, ...]:
    """Return an output's shape; a first axis that the graph leaves open is the batch, any other is 0: unknown."""
    if tensor.shape.rank is None:
        return (0,)
    return tuple(size if size is not None else 0 if place else batch for place, size in enumerate(tensor.shape))


def _end(tensor: tf.Tensor, linear: set[str]) -> str:
    while tensor.name not in linear and tensor.op.type in _RESHAPES:
        tensor = tensor.op.inputs[0]
    if tensor.name in linear or tensor.op.type == "LogSoftmax":
        return "logits"
    return {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(tensor.op.type, "values")


def fitting(output: Output) -> keras.losses.Loss:
    """Return the loss that a net with this output is usually trained with."""
    if output.ends_in == "sigmoid":
        return keras.losses.BinaryCrossentropy()
    if output.ends_in != "values" and len(output.shape) > 1 and output.shape[-1] > 1:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=output.ends_in == "logits")
    return keras.losses.MeanSquaredError()


def named(name: str, output: Output) -> Any:
    """Return the loss of this name in `keras.losses`, or of this dotted name, as Keras' compile takes it.

    A cross-entropy is computed from logits where the output does not end in a softmax or a sigmoid. Raises what
    `nets.custom.loss` does.
    """
    if "." in name:
        return custom.loss(name)
    loss = getattr(keras.losses, name, None) or keras.losses.get(name)
    classes = {_plain(each): kind for each, kind in vars(keras.losses).items() if isinstance(kind, type)}
    if (kind := classes.get(_kind(loss))) is None:
        return loss
    takes_logits = "from_logits" in inspect.signature(kind).parameters
    return kind(from_logits=output.ends_in not in ("softmax", "sigmoid")) if takes_logits else kind()


def by_output(user_loss: Any, names: Sequence[str], structure: Any) -> list[Any]:
    """Return the loss of each output, flat: `user_loss` as given to Keras' compile, outputs in this structure.

    `names` are those that Keras knows the outputs by; None stands for an output without a loss.
    """
    count = len(keras.tree.flatten(structure))
    if isinstance(user_loss, dict) and isinstance(structure, dict):
        return [each for key in sorted(structure) for each in by_output(user_loss.get(key), names, structure[key])]
    if isinstance(user_loss, dict):
        return [user_loss.get(key) for key in names]
    if isinstance(structure, list | tuple) and isinstance(user_loss, list | tuple) and len(user_loss) == len(structure):
        pairs = zip(user_loss, structure, strict=True)
        return [each for loss, part in pairs for each in by_output(loss, names, part)]
    if isinstance(user_loss, list | tuple) and len(user_loss) == count:
        return list(user_loss)
    return [user_loss] * count


def label(loss: Any) -> str:
    """Return the name of a loss with the arguments that change what it computes."""
    if loss is None or isinstance(loss, str):
        return loss or "unknown"
    name = getattr(loss, "__name__", type(loss).__name__)
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    return f"{name}(from_logits=True)" if config.get("from_logits") else str(name)


def target(loss: Any, output: Output, seed: int) -> tf.Tensor:
    """Return a target of this output for this loss, None where it is unknown: int32 classes, or float32 numbers."""
    random, shape, kind = np.random.default_rng(seed), output.shape, _kind(loss)
    width = shape[-1] if len(shape) > 1 else 1
    if kind in _CLASSES:
        return tf.constant(random.integers(0, width, shape[:-1]), tf.int32)
    if kind == "ctc":  # class 0 stands for no label
        return tf.constant(random.integers(1, max(2, width), (shape[0], max(1, shape[1] // 2))), tf.int32)
    if kind in _ONE_HOT:
        return tf.one_hot(random.integers(0, width, shape[:-1]), width, dtype=tf.float32)
    if kind in _NORMAL:
        return tf.constant(random.standard_normal(shape), tf.float32)
    return tf.constant(random.integers(0, 2, shape), tf.float32)


def are_classes(loss: Any, values: tf.Tensor) -> bool:
    """Whether these targets are classes, of which the loss only takes as many as the output is wide."""
    return _kind(loss) == "sparsecategoricalcrossentropy" and (values.dtype.is_integer or values.dtype.is_floating)


def beyond(loss: Any, output: Output, classes: tf.Tensor) -> int | None:
    """Return a class that the output does not have; None without any. The loss may ignore one."""
    ignored = getattr(loss, "ignore_class", None)
    numbers = np.unique(classes.numpy())
    wrong = numbers[((numbers < 0) | (numbers >= output.shape[-1])) & (numbers != ignored)]
    return int(wrong[-1]) if len(wrong) else None


def _kind(loss: Any) -> str:
    """Return what Keras' functions and classes for the same loss share."""
    if isinstance(loss, str):
        loss = getattr(keras.losses, loss, None) or keras.losses.get(loss)
    return _plain(getattr(loss, "__name__", type(loss).__name__))


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
