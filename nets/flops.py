"""How many operations one call of a layer is: the counting rule.

A multiply and an add are two operations; counts are for the whole batch, forward only.

- Convolutions, dense and einsum layers: two for each weight each time that it is used, with groups, depthwise and
  separable kernels as they are; one for each output with a bias, one for each output with a fused activation.
- Attention: its projections are layers of their own; scores and weighted sum are two for each product.
- Pooling: one for each input of each window. Local response normalisation: two for each channel of the window, plus 3.
- Batch normalisation and fixed rescaling: two for each output (a scale and a shift, as in inference); normalisations
  that take their statistics from the input in inference too: five. Softmax: three.
- Merging layers: one less than their inputs for each output. Every other layer without weights, and every plain
  operation of a functional model: one for each output, unless it only moves data (reshape, pad, concatenate,
  dropout in inference, ...), which is none.
- A layer with weights that is in none of these lists is not guessed at: `count` says None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from nets.lrn import LocalResponseNormalization

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a layer or plain operation: the shapes that went in and came out, and the bytes of the latter."""

    part: Any
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    output_bytes: int

    @property
    def size(self) -> int:
        """Elements of the first output."""
        return math.prod(self.outputs[0]) if self.outputs else 0


Rule = Callable[[Call], int]


def rule(part: Any) -> tuple[str, Rule] | None:
    """The counted base class of a layer, by name, and its rule; None where neither it nor its bases have one."""
    for base, counts in _RULES.items():
        if isinstance(part, base):
            return base.__name__, counts
    return None


def count(call: Call, weighted: bool) -> int | None:
    """Operations of the call; None for a layer that has weights of its own and no rule."""
    if found := rule(call.part):
        return found[1](call)
    if weighted:
        return call.size if type(call.part).__name__ == "LayerScale" else None  # ConvNeXt's; Keras does not export it
    return 0 if type(call.part).__name__ in _MOVES_DATA else call.size


def _epilogue(call: Call) -> int:
    """Bias and fused activation."""
    layer = call.part
    activation = getattr(layer, "activation", None)
    fused = activation is not None and activation is not keras.activations.linear
    return call.size * ((getattr(layer, "bias", None) is not None) + fused)


def _convolution(call: Call) -> int:
    return 2 * math.prod(_kernel(call)[:-1]) * call.size + _epilogue(call)


def _transposed_convolution(call: Call) -> int:
    return 2 * math.prod(_kernel(call)[:-1]) * math.prod(call.inputs[0]) + _epilogue(call)


def _depthwise_convolution(call: Call) -> int:
    return 2 * math.prod(_kernel(call)[:-2]) * call.size + _epilogue(call)


def _separable_convolution(call: Call) -> int:
    depthwise, pointwise = _kernel(call, "depthwise_kernel"), _kernel(call, "pointwise_kernel")
    positions = call.size // pointwise[-1]
    return 2 * (math.prod(depthwise) + math.prod(pointwise)) * positions + _epilogue(call)


def _dense(call: Call) -> int:
    return 2 * _kernel(call)[0] * call.size + _epilogue(call)


def _einsum(call: Call) -> int:
    terms, result = call.part.equation.replace(" ", "").split("->")
    labels = zip(terms.split(",")[1].replace(".", ""), _kernel(call), strict=True)
    return 2 * math.prod(size for label, size in labels if label not in result) * call.size + _epilogue(call)


def _attention(call: Call) -> int:
    query, value = call.inputs[:2]
    widths: int = call.part.num_heads * (call.part.key_dim + (call.part.value_dim or call.part.key_dim))
    return 2 * math.prod(query[:-1]) * math.prod(value[1:-1]) * widths


def _kernel(call: Call, name: str = "kernel") -> Shape:
    return tuple(getattr(call.part, name).shape)


def _pool(call: Call) -> int:
    window: Shape = call.part.pool_size
    return math.prod(window) * call.size


def _global_pool(call: Call) -> int:
    return math.prod(call.inputs[0])


def _lrn(call: Call) -> int:
    window: int = 2 * call.part.depth_radius + 1
    return (2 * window + 3) * call.size


def _merge(call: Call) -> int:
    return (len(call.inputs) - 1) * call.size


def _each(operations: int) -> Rule:
    return lambda call: operations * call.size


_PRODUCTS: dict[Any, Rule] = {
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed_convolution),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise_convolution),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable_convolution),
    layers.Dense: _dense,
    layers.EinsumDense: _einsum,
    layers.MultiHeadAttention: _attention,
}

PRODUCTS = frozenset(base.__name__ for base in _PRODUCTS)
"""Kinds whose work is a product of two tensors: the backward pass has one such product for each of them."""

_RULES: dict[Any, Rule] = {
    **_PRODUCTS,
    **dict.fromkeys((layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D), _pool),
    **dict.fromkeys((layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D), _pool),
    **dict.fromkeys((layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D), _global_pool),
    **dict.fromkeys((layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D), _global_pool),
    layers.GlobalAveragePooling3D: _global_pool,
    LocalResponseNormalization: _lrn,
    **dict.fromkeys((layers.BatchNormalization, layers.Normalization, layers.Rescaling), _each(2)),
    **dict.fromkeys((layers.LayerNormalization, layers.GroupNormalization, layers.UnitNormalization), _each(5)),
    layers.Softmax: _each(3),
    layers.PReLU: _each(2),
    **dict.fromkeys((layers.Add, layers.Subtract, layers.Multiply, layers.Average), _merge),
    **dict.fromkeys((layers.Maximum, layers.Minimum), _merge),
}

_MOVES_DATA = {
    *("Flatten", "Reshape", "Permute", "RepeatVector", "Concatenate", "Identity", "UpSampling2D", "Masking"),
    *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "StochasticDepth"),
    *("Transpose", "ExpandDims", "Squeeze", "GetItem", "Pad", "Split", "Stack", "BroadcastTo", "Cast"),
}
"""Kinds that compute nothing in inference."""
