"""Finds what a compiled function really computes from its graph: its products, and whether it needs its input.

The layer table has what the net says; the graph shows what is left of it: unused outputs are pruned, equal parts are
computed once, constants are folded. The graph in question is the one that runs. For TensorFlow, it is the one that was
optimised for the first call, where available; for XLA, the traced graph less whatever XLA certainly leaves out, and
less products that are not in its own program, where that can be read; without a compiler, the range is from what the
result needs to every operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nets.counting.operations import einsum_size
from sweeps.tasks.graphs.flat_graph import (
    LOOP,
    LOOP_VARIABLE,
    MERGE,
    PARAMETER,
    FlatGraph,
    Node,
    Shape,
    Value,
    reachable,
)
from sweeps.tasks.graphs.xla_program import Program
from tracking.record import Compile

_VALUES_UNUSED = {
    *("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike", "BroadcastGradientArgs"),
    *("TensorListReserve", "EmptyTensorList"),
}
"""Operations whose outputs depend on the shape of their inputs, not on their numbers."""
_LOWERED = {"Switch", "Merge", "Enter", "Exit", "NextIteration"}
"""What branches and loops become in an optimised graph, which no longer shows what is in which."""
_OPAQUE = ("CudnnRNN", "XlaCustomCall", "XlaLaunch", "TRTEngineOp", "PyFunc", "EagerPyFunc", "Cholesky", "Svd", "Qr")
_TRANSFORMS = ("FFT", "RFFT", "IFFT", "IRFFT")
"""Operations that compute more than this module can count."""


@dataclass(frozen=True)
class GraphWork:
    """Operations in products of two tensors, per call."""

    least: int
    most: int | None
    """With every branch taken; None where a loop or something opaque may do any number more."""
    needs_input: bool
    """Whether any output, or any change of the variables to be trained, depends on the numbers that are fed."""
    hidden: tuple[str, ...] = ()
    """Kinds of operations whose amount of work the graph does not show; products in a loop count as `While`."""


def look(
    traced: FlatGraph,
    optimised: FlatGraph | None,
    fed: int,
    compiler: Compile,
    program: Program | None = None,
    trained: frozenset[int] = frozenset(),
) -> GraphWork:
    """Return the work of a function whose first `fed` parameters are its input.

    `program` is XLA's program of it, where that was read. `trained` are the places of the parameters that are variables
    which the function is there to change: what they change to must need the input; without any, its outputs must.
    """
    shown = None if optimised is None or any(node.kind in _LOWERED for node in optimised.nodes) else optimised
    needs_input = all(_needs_input(each, fed, trained) for each in (traced, shown or traced))
    nodes = shown.nodes if shown is not None else list(_kept(traced, merged=compiler == "xla"))
    least, most = _sum(nodes)
    if program is not None:
        named, _ = _sum(node for node in nodes if _size(node) and program.has(node.operation.name))
        there = max(named, program.products)
        least, most = min(least, there), None if most is None else min(most, there)
    if shown is not None and most is None:  # parts made by another compiler have no shapes
        least, most = _sum(_kept(traced, merged=False))
    if compiler == "eager":  # it also computes unused gradients
        _, most = _sum(traced.nodes)
    return GraphWork(least, most, needs_input, tuple(sorted(set(_hidden(traced)))))


def _hidden(flat: FlatGraph) -> Iterator[str]:
    for node in flat.nodes:
        if node.kind.startswith((*_OPAQUE, *_TRANSFORMS)):
            yield node.kind
        elif node.looped and _size(node) != 0:
            yield "While"


def _sum(nodes: Iterable[Node]) -> tuple[int, int | None]:
    """Return `least` and `most` of these nodes."""
    least, most = 0, 0
    known = True
    for node in nodes:
        size = _size(node)
        known = known and size is not None and not (node.looped and size)
        most += size or 0
        least += 0 if node.optional else size or 0
    return least, most if known else None


def _needs_input(flat: FlatGraph, fed: int, trained: frozenset[int]) -> bool:
    inputs = set(flat.parameters[:fed])
    if not trained:
        return not inputs.isdisjoint(_behind(flat.outputs))
    changes: dict[Node, list[Value]] = {}
    for node in _changes(flat):
        if node.inputs:
            changes.setdefault(_origin(node.inputs[0]), []).append((node, 0))
    # An optimizer's momentum is a variable, too: what it is changed to goes into the weights.
    waiting = [flat.parameters[place] for place in trained if place < len(flat.parameters)]
    seen: set[Node] = set()
    while waiting:
        variable = waiting.pop()
        seen.add(variable)
        behind = _behind(changes.get(variable, ()))
        if not inputs.isdisjoint(behind):
            return True
        waiting += [each for each in flat.parameters if each in behind and each in changes and each not in seen]
    return False


def _behind(values: Sequence[Value]) -> set[Node]:
    return reachable(values, follow=lambda node: node.kind not in _VALUES_UNUSED)


def _changes(flat: FlatGraph) -> Iterator[Node]:
    """Yield the operations without outputs: those that change variables, first among their inputs, or only check."""
    return (node for node in flat.nodes if node.operation is not None and not node.operation.outputs)


def _origin(value: Value) -> Node:
    node, _ = value
    while node.kind == "Identity":
        node, _ = node.inputs[0]
    return node


def _kept(flat: FlatGraph, merged: bool) -> Iterator[Node]:
    """Yield the nodes behind outputs and changes of variables; `merged` skips equal and constant operations."""
    used = reachable([*flat.outputs, *((node, 0) for node in _changes(flat))])
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
    """Whether equal inputs give equal outputs; a variable does so within one step, before it is changed."""
    if node.kind in (PARAMETER, MERGE, LOOP, LOOP_VARIABLE):
        return False
    return node.kind == "ReadVariableOp" or not node.operation.op_def.is_stateful


def _attributes(node: Node) -> bytes:
    values = sorted((key, value.SerializeToString()) for key, value in node.operation.node_def.attr.items())
    return b"".join(key.encode() + value for key, value in values if not key.startswith("_"))


def _size(node: Node) -> int | None:
    """Return the operations of a node that is a product, 0 for others; None where shapes are unknown."""
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
    """A shape that is only known at run time."""


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
    """Count the gradient by the image, a transposed convolution of sizes, kernel and the output's gradient."""
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
    """Count a matrix product, or a batch of them; either factor may be transposed."""
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
