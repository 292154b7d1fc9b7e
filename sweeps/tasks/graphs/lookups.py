"""Finds how a traced net uses each of its inputs: which whole numbers its lookups allow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from sweeps.tasks.graphs.flat_graph import LOOP_VARIABLE, PARAMETER, FlatGraph, Node, Value, constant

_SAME_VALUES = {
    *("Cast", "Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose", "StridedSlice", "Slice"),
    *("GatherV2", "BroadcastTo", "Tile", "ReverseV2", "Reverse", "Snapshot", "StopGradient", "EnsureShape", "Roll"),
    *("Minimum", "Maximum", "ClipByValue", "Unpack", "Pad", "PadV2", "MirrorPad", "TensorListFromTensor"),
    *("TensorListGetItem", "TensorListStack", "Bitcast", "CheckNumerics", LOOP_VARIABLE),
}
"""Operations whose output contains the numbers of their first input."""
_JOINING = {"ConcatV2": -1, "Pack": None, "Split": None, "SplitV": None, "Merge": None}
"""Operations whose output contains the numbers of all their inputs, up to this one."""
_FRESH = {
    *("ArgMax", "ArgMin", "TopK", "TopKV2", "Where", "Range", "Unique", "UniqueV2", "LowerBound", "UpperBound"),
    *("SearchSorted", "Bucketize", "StringToHashBucketFast", "StringToHashBucketStrong", "LookupTableFindV2", "Shape"),
    *("ShapeN", "Size", "Rank", "Multinomial", "RandomUniformInt", "StatelessRandomUniformInt", "FloorMod", "OneHot"),
    *("ZerosLike", "OnesLike", "Const", "DenseBincount", "StatelessRandomUniformIntV2"),
}
"""Operations whose whole numbers are not those of their inputs."""
_EXACT = {tf.bfloat16: 2**8, tf.float16: 2**11, tf.float32: 2**24}
"""Up to this number, a type of floats has every whole number."""


@dataclass(frozen=True)
class Usage:
    """What a net does with the numbers of one input."""

    low: int = 0
    """1 where 0 is treated differently from the others, like padding."""
    high: int | None = None
    """One more than the largest number that all its lookups allow; None where it feeds none."""
    keys: Any = None
    """The keys of the vocabulary in which it is looked up, if any."""
    arithmetic: bool = False
    """It also goes into a lookup through a calculation, so that its range is unknown."""
    in_row: bool = False
    """One lookup takes all of them, as those of a text; not each from a table of its own."""
    narrow: str | None = None
    """A type of floats on the way that is too narrow for these numbers."""


def usages(flat: FlatGraph, function: Any, count: int) -> list[Usage]:
    """Return the usage of each of the first `count` parameters of a concrete function."""
    by_parameter = {node: Usage() for node in flat.parameters[:count]}
    for node in flat.nodes:
        for indices, size in lookups(node):
            for parameter, exact, room in _origins(indices):
                if parameter in by_parameter:
                    in_row = by_parameter[parameter].in_row or _elements(indices) >= _elements((parameter, 0))
                    narrowed = _narrowed(by_parameter[parameter], size, exact, room)
                    by_parameter[parameter] = replace(narrowed, in_row=in_row)
        if node.kind == "LookupTableFindV2":
            for parameter, exact, _ in _origins(node.inputs[1]):
                if parameter in by_parameter and exact:
                    keys = _keys(flat, function, node, count)
                    by_parameter[parameter] = replace(by_parameter[parameter], keys=keys)
        if node.kind in ("Equal", "NotEqual") and _is_zero(node.inputs[1]):
            for parameter, exact, _ in _origins(node.inputs[0]):
                if parameter in by_parameter and exact:
                    by_parameter[parameter] = replace(by_parameter[parameter], low=1)
    return list(by_parameter.values())


def _narrowed(usage: Usage, size: int | None, exact: bool, room: tf.DType | None) -> Usage:
    """Return the usage combined with one more lookup of this size."""
    if not exact or size is None:
        return replace(usage, arithmetic=True)
    high = size if usage.high is None else min(usage.high, size)
    narrow = room.name if room is not None and size > _EXACT[room] + 1 else usage.narrow
    return replace(usage, high=high, narrow=narrow)


def lookups(node: Node) -> Iterator[tuple[Value, int | None]]:
    """Yield the indices that an operation looks up, and the number of rows; None where it is unknown."""
    kind, inputs = node.kind, node.inputs
    if kind == "GatherV2":
        axis = constant(inputs[2])
        table = _shape(inputs[0])
        yield inputs[1], None if table is None or axis is None else table[int(axis)]
    elif kind in ("ResourceGather", "Gather"):
        table = _table(inputs[0]) if kind == "ResourceGather" else _shape(inputs[0])
        yield inputs[1], None if table is None else table[int(_attribute(node, "batch_dims", 0))]
    elif kind in ("GatherNd", "ResourceGatherNd"):
        table = _table(inputs[0]) if kind == "ResourceGatherNd" else _shape(inputs[0])
        indices = _shape(inputs[1])
        yield inputs[1], None if table is None or indices is None else min(table[: indices[-1]], default=None)
    elif kind == "OneHot":
        depth = constant(inputs[1])
        yield inputs[0], None if depth is None else int(depth)
    elif kind in ("DenseBincount", "Bincount"):
        yield inputs[0], None if node.shapes[0] is None else node.shapes[0][-1]
    elif kind in ("UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd"):
        segments = constant(inputs[2])
        yield inputs[1], None if segments is None else int(segments)
    elif kind in ("TensorScatterAdd", "TensorScatterUpdate", "TensorScatterMax", "TensorScatterMin"):
        table, indices = _shape(inputs[0]), _shape(inputs[1])
        yield inputs[1], None if table is None or indices is None else min(table[: indices[-1]], default=None)
    elif kind == "ScatterNd":
        indices = _shape(inputs[0])
        table = node.shapes[0]
        yield inputs[0], None if table is None or indices is None else min(table[: indices[-1]], default=None)


def _origins(value: Value) -> Iterator[tuple[Node, bool, tf.DType | None]]:
    """Yield the parameters behind whole numbers, whether they are unchanged, and the narrowest floats on the way."""
    waiting: list[tuple[Value, bool, tf.DType | None]] = [(value, True, None)]
    seen = set()
    while waiting:
        (node, place), exact, room = waiting.pop()
        dtype = node.dtypes[place] if place < len(node.dtypes) else None
        if (node, place, exact) in seen or dtype is None or dtype == tf.bool:
            continue
        seen.add((node, place, exact))
        if dtype in _EXACT and (room is None or _EXACT[dtype] < _EXACT[room]):
            room = dtype
        if node.kind == PARAMETER:
            yield node, exact, room
        elif node.kind in _FRESH:
            continue
        elif node.kind in ("SelectV2", "Select"):
            chosen = node.inputs[2:] if is_negative(node.inputs[0]) else node.inputs[1:]
            waiting += [(source, exact, room) for source in chosen]
        elif node.kind == "IdentityN":
            waiting.append((node.inputs[place], exact, room))
        elif node.kind in _SAME_VALUES:
            waiting += [(source, exact, room) for source in node.inputs[:1]]
        elif node.kind in _JOINING:
            waiting += [(source, exact, room) for source in node.inputs[: _JOINING[node.kind]]]
        elif node.operation is None:  # a branch, a loop
            waiting += [(source, exact, room) for source in node.inputs]
        elif dtype.is_integer:
            waiting += [(source, False, room) for source in node.inputs]


def is_negative(value: Value) -> bool:
    """Whether it is `x < 0`: negative indices count from the end, and none are fed."""
    node, _ = value
    return node.kind == "Less" and _is_zero(node.inputs[1])


def _is_zero(value: Value) -> bool:
    numbers = constant(value)
    return numbers is not None and numbers.dtype.kind in "iuf" and not np.any(numbers)


def _shape(value: Value) -> tuple[int, ...] | None:
    node, place = value
    return node.shapes[place]


def _elements(value: Value) -> int:
    shape = _shape(value)
    return 0 if shape is None else math.prod(shape)


def _table(value: Value) -> tuple[int, ...] | None:
    """Return the shape of a variable; None where it is not fully known."""
    node, place = value
    while node.kind in ("Identity", LOOP_VARIABLE):
        node, place = node.inputs[0]
    handle = getattr(node.tensors[place], "_handle_data", None)
    if handle is None or not handle.is_set or not handle.shape_and_type:
        return None
    shape = tf.TensorShape(handle.shape_and_type[0].shape)
    return tuple(shape) if shape.is_fully_defined() else None


def _keys(flat: FlatGraph, function: Any, node: Node, count: int) -> Any:
    """Return the keys of the table as an array."""
    table = flat.parameters.index(node.inputs[0][0]) - count
    handle = function.captured_inputs[table]
    types = {"Tkeys": node.operation.get_attr("Tin"), "Tvalues": node.operation.get_attr("Tout")}
    return tf.raw_ops.LookupTableExportV2(table_handle=handle, **types)[0].numpy()


def _attribute(node: Node, name: str, default: Any) -> Any:
    return node.operation.get_attr(name) if name in node.operation.node_def.attr else default
