"""What a compiled function really computes, told from its graph: its products, and whether it needs its input at all.

What was asked for is in the layer table. The graph says what is left of it: an output that nobody uses is pruned, equal
parts are computed once, constants are folded. Looked at is what runs: the graph that TensorFlow has optimised for the
first call, where it shows one; for XLA, the traced graph without what XLA leaves out for certain, and without products
that are not in its own program, where that can be read; without a compiler, from what the result needs to
every operation there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nets.counting.flops import einsum_size
from sweeps.tasks.graphs.flat_graph import LOOP, LOOP_VARIABLE, MERGE, PARAMETER, FlatGraph, Node, Shape, reachable
from sweeps.tasks.graphs.xla_program import Program
from tracking.record import Compile

_VALUES_UNUSED = {
    *("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike", "BroadcastGradientArgs"),
    *("TensorListReserve", "EmptyTensorList"),
}
"""Operations whose outputs depend on the shape of their inputs, not on the numbers in them."""
_LOWERED = {"Switch", "Merge", "Enter", "Exit", "NextIteration"}
"""What branches and loops have become in an optimised graph, where one cannot tell what is in which."""
_OPAQUE = ("CudnnRNN", "XlaCustomCall", "XlaLaunch", "TRTEngineOp", "PyFunc", "EagerPyFunc", "Cholesky", "Svd", "Qr")
_TRANSFORMS = ("FFT", "RFFT", "IFFT", "IRFFT")
"""Operations that compute more than this module can count."""


@dataclass(frozen=True)
class GraphWork:
    """Operations that are products of two tensors, in one call."""

    least: int
    most: int | None
    """With every branch taken; None: a loop, or something that cannot be looked into, may do any number more."""
    needs_input: bool
    """Whether any output depends on the numbers that are fed."""
    hidden: tuple[str, ...] = ()
    """Kinds of operations of which the graph does not say how much they compute; products in a loop as `While`."""


def look(
    traced: FlatGraph,
    optimised: FlatGraph | None,
    fed: int,
    compiler: Compile,
    program: Program | None = None,
) -> GraphWork:
    """The work of a function whose first `fed` parameters are its input.

    `program`: what XLA has made of it; None where that was not looked at.
    """
    shown = None if optimised is None or any(node.kind in _LOWERED for node in optimised.nodes) else optimised
    needs_input = all(_needs_input(each, fed) for each in (traced, shown or traced))
    nodes = shown.nodes if shown is not None else list(_kept(traced, merged=compiler == "xla"))
    least, most = _sum(nodes)
    if program is not None:
        named, _ = _sum(node for node in nodes if _size(node) and program.has(node.operation.name))
        there = max(named, program.products)
        least, most = min(least, there), None if most is None else min(most, there)
    if shown is not None and most is None:  # what another compiler has made of a part has no shapes
        least, most = _sum(_kept(traced, merged=False))
    if compiler == "eager":  # which also computes gradients that nobody asks for
        _, most = _sum(traced.nodes)
    return GraphWork(least, most, needs_input, tuple(sorted(set(_hidden(traced)))))


def _hidden(flat: FlatGraph) -> Iterator[str]:
    for node in flat.nodes:
        if node.kind.startswith((*_OPAQUE, *_TRANSFORMS)):
            yield node.kind
        elif node.looped and _size(node) != 0:
            yield "While"


def _sum(nodes: Iterable[Node]) -> tuple[int, int | None]:
    """`least` and `most` of these nodes."""
    least, most = 0, 0
    known = True
    for node in nodes:
        size = _size(node)
        known = known and size is not None and not (node.looped and size)
        most += size or 0
        least += 0 if node.optional else size or 0
    return least, most if known else None


def _needs_input(flat: FlatGraph, fed: int) -> bool:
    inputs = set(flat.parameters[:fed])
    return not inputs.isdisjoint(reachable(flat.outputs, follow=lambda node: node.kind not in _VALUES_UNUSED))


def _kept(flat: FlatGraph, merged: bool) -> Iterator[Node]:
    """What outputs and changes of variables are computed from; `merged`: equal operations once, constant ones never."""
    changes = [(node, 0) for node in flat.nodes if node.operation is not None and not node.operation.outputs]
    used = reachable([*flat.outputs, *changes])
    if not merged:
        yield from (node for node in flat.nodes if node in used)
        return
    numbers: dict[Any, int] = {}
    of_node: dict[Node, int] = {}
    folded: set[Node] = set()
    for node in flat.nodes:
        if node not in used:
            continue
        sources = tuple((of_node.get(source, -1), place) for source, place in node.inputs)
        key = (node.kind, sources, _attributes(node)) if _pure(node) else id(node)
        first = key not in numbers
        of_node[node] = numbers.setdefault(key, len(numbers))
        if node.kind == "Const" or (node.inputs and _pure(node) and all(source in folded for source, _ in node.inputs)):
            folded.add(node)
        elif first:
            yield node


def _pure(node: Node) -> bool:
    """Whether the node gives the same for the same inputs; a variable does within one step, before it is changed."""
    if node.kind in (PARAMETER, MERGE, LOOP, LOOP_VARIABLE):
        return False
    return node.kind == "ReadVariableOp" or not node.operation.op_def.is_stateful


def _attributes(node: Node) -> bytes:
    values = sorted((key, value.SerializeToString()) for key, value in node.operation.node_def.attr.items())
    return b"".join(key.encode() + value for key, value in values if not key.startswith("_"))


def _size(node: Node) -> int | None:
    """Operations of a node that is a product, 0 of others; None where shapes are not known."""
    kind = node.kind.removeprefix("_").removeprefix("Fused")
    if kind.startswith(_OPAQUE):
        return None
    if (rule := _RULES.get(kind)) is None:
        return 0
    try:
        return rule(node)
    except _UnknownShapeError:
        return None


class _UnknownShapeError(Exception):
    """A shape that only a run would tell."""


def _known(shape: Shape) -> tuple[int, ...]:
    if shape is None:
        raise _UnknownShapeError
    return shape


def _input(node: Node, place: int) -> tuple[int, ...]:
    source, output = node.inputs[place]
    return _known(source.shapes[output])


def _convolution(node: Node) -> int:
    return 2 * math.prod(_input(node, 1)[:-1]) * math.prod(_known(node.shapes[0]))


def _by_input(node: Node) -> int:
    """The gradient by the image, which is a transposed convolution: sizes, kernel, gradient of the output."""
    return 2 * math.prod(_input(node, 1)[:-1]) * math.prod(_input(node, 2))


def _by_kernel(node: Node) -> int:
    return 2 * math.prod(_known(node.shapes[0])[:-1]) * math.prod(_input(node, 2))


def _depthwise(node: Node) -> int:
    return 2 * math.prod(_input(node, 1)[:-2]) * math.prod(_known(node.shapes[0]))


def _depthwise_by_input(node: Node) -> int:
    return 2 * math.prod(_input(node, 1)[:-2]) * math.prod(_input(node, 2))


def _depthwise_by_kernel(node: Node) -> int:
    return 2 * math.prod(_known(node.shapes[0])[:-2]) * math.prod(_input(node, 2))


def _product(node: Node) -> int:
    """A matrix product, or a batch of them; either factor may be given transposed."""
    transposed = any(_flag(node, name) for name in ("transpose_a", "adj_x"))
    return 2 * _input(node, 0)[-2 if transposed else -1] * math.prod(_known(node.shapes[0]))


def _einsum(node: Node) -> int:
    if len(node.inputs) != 2:
        return 0
    equation = node.operation.get_attr("equation").decode()
    return 2 * (einsum_size(equation, [_input(node, 0), _input(node, 1)]) or 0)


def _flag(node: Node, name: str) -> bool:
    return name in node.operation.node_def.attr and bool(node.operation.get_attr(name))


_RULES: dict[str, Callable[[Node], int]] = {
    **dict.fromkeys(("Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _by_input),
    **dict.fromkeys(("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"), _by_kernel),
    "DepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNativeBackpropInput": _depthwise_by_input,
    "DepthwiseConv2dNativeBackpropFilter": _depthwise_by_kernel,
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "SparseMatMul"), _product),
    "Einsum": _einsum,
}
