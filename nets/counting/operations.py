"""The counting rules of the plain operations of a functional model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nets.counting.calls import Call, Rule, Shape, Term, product


def _matrix_product(call: Call) -> tuple[Term, ...]:
    return product(2 * call.size * call.inputs[0][-1], "input", "input")


def _plain_einsum(call: Call) -> tuple[Term, ...] | None:
    return (
        None
        if (size := einsum_size(call.part.subscripts, call.inputs)) is None
        else product(2 * size, "input", "input")
    )


def einsum_size(equation: str, shapes: Sequence[Shape]) -> int | None:
    """Return how many pairs of elements an einsum multiplies; None unless it is of two tensors."""
    names = equation.replace(" ", "").split("->")[0].split(",")
    if len(names) != 2 or len(shapes) != 2:
        return None
    sizes: dict[str, int] = {}
    for labels, shape in zip(names, shapes, strict=True):
        before, dots, after = labels.partition("...")
        hidden = len(shape) - len(before) - len(after)
        expanded = [*before, *(f"...{hidden - i}" for i in range(hidden if dots else 0)), *after]
        for label, size in zip(expanded, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return math.prod(sizes.values())


def _plain_convolution(call: Call) -> tuple[Term, ...]:
    return product(2 * math.prod(call.inputs[1][:-1]) * call.size, "input", "input")


def _plain_depthwise(call: Call) -> tuple[Term, ...]:
    return product(2 * math.prod(call.inputs[1][:-2]) * call.size, "input", "input")


def _plain_transposed(call: Call) -> tuple[Term, ...]:
    return product(2 * math.prod(call.inputs[1][:-1]) * math.prod(call.inputs[0]), "input", "input")


def _plain_attention(call: Call) -> tuple[Term, ...]:
    (batch, queries, heads, width), (_, keys, *_) = call.inputs[:2]
    return weighted_sum(batch * queries * heads * keys, 2 * width)


def weighted_sum(scores: int, widths: int) -> tuple[Term, ...]:
    """Count an attention's scores, their scale and softmax, and the sum that they weight.

    `widths` are those of a key and a value together.
    """
    return (Term(4 * scores), *product(2 * scores * widths, "inner", "inner"))


OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(("Matmul", "Dot"), _matrix_product),
    "Einsum": _plain_einsum,
    "Conv": _plain_convolution,
    "DepthwiseConv": _plain_depthwise,
    "ConvTranspose": _plain_transposed,
    "DotProductAttention": _plain_attention,
}
"""Plain operations of a functional model that are products, by the names of their classes."""

NOT_COUNTED = {
    *("Tensordot", "Inner", "Vdot", "Outer", "Kron", "Correlate", "Corrcoef", "SeparableConv", "CDist"),
    *("Cholesky", "CholeskyInverse", "Det", "Eig", "Eigh", "Inv", "Logdet", "Lstsq", "LuFactor", "MatrixRank", "Pinv"),
    *("Qr", "Solve", "SolveTriangular", "SVD", "FFT", "FFT2", "IFFT2", "RFFT", "IRFFT", "STFT", "ISTFT"),
    *("AssociativeScan", "Cond", "ForiLoop", "JVP", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"),
}
"""Plain operations that are much more than one operation for each output."""
