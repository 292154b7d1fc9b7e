"""The counting rule: how many operations one call of a layer takes.

A multiply and an add are two operations; counts are for the whole batch, forward only.

- Convolutions, dense and einsum layers: two for each use of a weight, also with groups, depthwise and separable
  kernels; one for each output with a bias, one for each output with a fused activation.
- Attention: its projections are layers of their own; scores and weighted sum are two for each product, the scores'
  scale and softmax four for each score. Additive scores: three for each element of query and key that meet.
- Recurrent layers: at every step two for each weight of the cell's kernels, and a few for each unit (gates, bias,
  activations). Their cells are not separate rows.
- Plain matrix products, einsums, convolutions and dot products of a functional model: two for each product.
- Pooling: one for each input of each window. Local response normalisation: two for each channel of the window, plus 3.
- Batch normalisation and fixed rescaling: two for each output (a scale and a shift, as in inference); normalisations
  that take their statistics from the input in inference too: five. Softmax: three.
- Merging layers: one less than their inputs for each output. Every other layer without weights, and every plain
  operation of a functional model: one for each output, unless it only moves data (reshape, pad, concatenate, look up,
  dropout in inference, ...), which is none.
- For a layer with weights that is in none of these lists, and for an operation of linear algebra, `terms` returns
  None instead of a guess.

The backward pass of a product of two tensors has one such product for each of them that needs a gradient.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers

from nets.counting.calls import Call, Operand, Rule, Shape, Term, product
from nets.counting.operations import NOT_COUNTED, OPERATIONS, weighted_sum
from nets.lrn import LocalResponseNormalization


def rule(part: Any) -> tuple[str, Rule] | None:
    """Return the counted base class of a layer, by name, and its rule; None where there is none."""
    for base, counts in _RULES.items():
        if isinstance(part, base):
            return base.__name__, counts
    return None


def whole(part: Any) -> bool:
    """Whether a layer forms one row with the layers inside it, which it calls once per step."""
    return isinstance(part, layers.RNN | layers.TimeDistributed)


def terms(call: Call, weighted: bool) -> tuple[Term, ...] | None:
    """Return the operations of the call; None for a layer with weights, or an operation, without a rule."""
    if base_and_rule := rule(call.part):
        return base_and_rule[1](call)
    kind = type(call.part).__name__
    if not isinstance(call.part, layers.Layer):
        if kind in NOT_COUNTED:
            return None
        if kind in OPERATIONS:
            return OPERATIONS[kind](call)
    if weighted and kind != "LayerScale":  # ConvNeXt's, which Keras does not export
        return None
    return () if kind in _MOVES_DATA else (Term(call.size),)


def _layer_product(call: Call, products: int) -> tuple[Term, ...]:
    """Count the input times a kernel, then bias and fused activation."""
    layer = call.part
    activation = getattr(layer, "activation", None)
    fused = activation is not None and activation is not keras.activations.linear
    others = call.size * ((getattr(layer, "bias", None) is not None) + fused)
    return product(products, "input", "weight", others=others)


def _convolution(call: Call) -> tuple[Term, ...]:
    return _layer_product(call, 2 * math.prod(_kernel(call)[:-1]) * call.size)


def _transposed_convolution(call: Call) -> tuple[Term, ...]:
    return _layer_product(call, 2 * math.prod(_kernel(call)[:-1]) * math.prod(call.inputs[0]))


def _depthwise_convolution(call: Call) -> tuple[Term, ...]:
    return _layer_product(call, 2 * math.prod(_kernel(call)[:-2]) * call.size)


def _separable_convolution(call: Call) -> tuple[Term, ...]:
    depthwise, pointwise = _kernel(call, "depthwise_kernel"), _kernel(call, "pointwise_kernel")
    positions = call.size // pointwise[-1]
    (last,) = _layer_product(call, 2 * math.prod(pointwise) * positions)
    (first,) = product(2 * math.prod(depthwise) * positions, "input", "weight")
    return first, Term(last.flops, last.products, ("inner", "weight"))


def _dense(call: Call) -> tuple[Term, ...]:
    return _layer_product(call, 2 * _kernel(call)[0] * call.size)


def _einsum(call: Call) -> tuple[Term, ...]:
    inputs, result = call.part.equation.replace(" ", "").split("->")
    labels = zip(inputs.split(",")[1].replace(".", ""), _kernel(call), strict=True)
    return _layer_product(call, 2 * math.prod(size for label, size in labels if label not in result) * call.size)


def _multi_head_attention(call: Call) -> tuple[Term, ...]:
    query, value = call.inputs[:2]
    pairs = math.prod(query[:-1]) * math.prod(value[1:-1])
    heads: int = call.part.num_heads
    return weighted_sum(pairs * heads, call.part.key_dim + (call.part.value_dim or call.part.key_dim))


def _grouped_query_attention(call: Call) -> tuple[Term, ...]:
    query, value = call.inputs[:2]
    pairs = math.prod(query[:-1]) * math.prod(value[1:-1])
    heads: int = call.part.num_query_heads
    return weighted_sum(pairs * heads, 2 * call.part.head_dim)


def _attention(call: Call) -> tuple[Term, ...]:
    query, value = call.inputs[:2]
    pairs = math.prod(query[:-1]) * value[1]
    summed = Term(pairs * (2 * value[-1] + 3), 2 * pairs * value[-1], ("inner", "input"))  # and the softmax's three
    if isinstance(call.part, layers.AdditiveAttention) or call.part.score_mode == "concat":  # of tanh(query + key)
        return Term(3 * pairs * query[-1]), summed
    return Term(2 * pairs * query[-1], 2 * pairs * query[-1], ("input", "input")), summed


_GATES = {layers.LSTMCell: (4, 17), layers.GRUCell: (3, 15), layers.SimpleRNNCell: (1, 3)}
"""Products with each kernel and other operations, per unit and step."""


def _recurrent(call: Call) -> tuple[Term, ...] | None:
    """Count every cell at every step; None for a cell of another kind."""
    cell, (batch, steps, width) = call.part.cell, call.inputs[0]
    source: Operand = "input"
    terms: list[Term] = []
    for each in cell.cells if isinstance(cell, layers.StackedRNNCells) else [cell]:
        counted = next((counts for kind, counts in _GATES.items() if type(each) is kind), None)
        if counted is None:
            return None
        gates, others = counted
        times = batch * steps * each.units
        terms += product(2 * times * gates * width, source, "weight", others=times * others)
        terms += _over_state(2 * times * gates * each.units, steps)
        width, source = each.units, "inner"
    return tuple(terms)


def _over_state(products: int, steps: int) -> tuple[Term, ...]:
    """Count the products with each step's state; the first state is a constant and needs no gradient."""
    first = products // steps
    return Term(products - first, products - first, ("inner", "weight")), Term(first, first, ("weight",))


def _convolutional_lstm(call: Call) -> tuple[Term, ...]:
    cell, output = call.part.cell, call.outputs[0]
    last = cell.data_format == "channels_last"
    positions = math.prod(output[-cell.rank - 1 : -1] if last else output[-cell.rank :])
    times = math.prod(call.inputs[0][:2]) * positions
    terms = product(2 * times * math.prod(cell.kernel.shape), "input", "weight", others=17 * times * cell.filters)
    return terms + _over_state(2 * times * math.prod(cell.recurrent_kernel.shape), call.inputs[0][1])


def _each_step(call: Call) -> tuple[Term, ...] | None:
    """Count the layer inside, on as many inputs as there are steps."""
    inputs, outputs = ((math.prod(shape[:2]), *shape[2:]) for shape in (call.inputs[0], call.outputs[0]))
    inside = call.part.layer
    if isinstance(inside, keras.Model) or not (rule(inside) or not inside.weights):
        return None
    return terms(Call(inside, (inputs,), (outputs,), call.output_bytes), weighted=bool(inside.weights))


def _dot(call: Call) -> tuple[Term, ...]:
    axes = call.part.axes
    axis = axes if isinstance(axes, int) else axes[0]
    return product(2 * call.size * call.inputs[0][axis], "input", "input")


def _kernel(call: Call, name: str = "kernel") -> Shape:
    return tuple(getattr(call.part, name).shape)


def _pool(call: Call) -> tuple[Term, ...]:
    window: Shape = call.part.pool_size
    return (Term(math.prod(window) * call.size),)


def _global_pool(call: Call) -> tuple[Term, ...]:
    return (Term(math.prod(call.inputs[0])),)


def _lrn(call: Call) -> tuple[Term, ...]:
    window: int = 2 * call.part.depth_radius + 1
    return (Term((2 * window + 3) * call.size),)


def _merge(call: Call) -> tuple[Term, ...]:
    return (Term((len(call.inputs) - 1) * call.size),)


def _each(operations: int) -> Rule:
    return lambda call: (Term(operations * call.size),)


_RULES: dict[Any, Rule] = {
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed_convolution),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise_convolution),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable_convolution),
    layers.Dense: _dense,
    layers.EinsumDense: _einsum,
    layers.MultiHeadAttention: _multi_head_attention,
    layers.GroupQueryAttention: _grouped_query_attention,
    **dict.fromkeys((layers.Attention, layers.AdditiveAttention), _attention),
    **dict.fromkeys((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), _convolutional_lstm),
    **dict.fromkeys((layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN), _recurrent),
    layers.TimeDistributed: _each_step,
    layers.Embedding: lambda _: (),
    layers.Dot: _dot,
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
