"""Finds lookups of rows that a table lacks, where the graph itself says which: positions, as in a transformer.

A processor refuses them, but XLA and GPUs replace them in silence, so that something else would be timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from sweeps.tasks.graphs.flat_graph import FlatGraph, Value
from sweeps.tasks.graphs.lookups import is_negative, lookups

_SAME_VALUES = ("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "BroadcastTo", "Tile", "StopGradient")


@dataclass(frozen=True)
class Missing:
    """A lookup of rows that are not there."""

    layer: str
    rows: int
    """As many as there are."""
    row: int
    """One that is looked up."""


def missing(flat: FlatGraph) -> Iterator[Missing]:
    """Yield each lookup whose indices do not depend on the input and are beyond its table."""
    for node in flat.nodes:
        for indices, rows in lookups(node):
            if node.kind == "OneHot" or rows is None or (numbers := _numbers(indices)) is None or not numbers.size:
                continue
            if (last := int(numbers.max())) >= rows or int(numbers.min()) < -rows:
                row = last if last >= rows else int(numbers.min())
                yield Missing(node.operation.name.rpartition("/")[0] or node.operation.name, rows, row)


def _numbers(value: Value) -> np.ndarray | None:
    """Return the numbers of a tensor that is the same for every input, in any shape; None for others."""
    node, place = value
    while True:
        if node.kind in _SAME_VALUES:
            node, place = node.inputs[0]
        elif node.kind in ("SelectV2", "Select") and is_negative(node.inputs[0]):
            node, place = node.inputs[2]
        else:
            break
    if node.kind == "Range":
        ends = [each for each in map(_number, node.inputs) if each is not None]
        return np.arange(*ends) if len(ends) == len(node.inputs) else None
    if place >= len(node.tensors) or not node.dtypes[place].is_integer:
        return None
    numbers = tf.get_static_value(node.tensors[place])
    return None if numbers is None else np.asarray(numbers)


def _number(value: Value) -> int | None:
    """Return one number, such as an element of a shape; None where it is not known."""
    node, _ = value
    if node.kind == "StridedSlice":
        numbers, begin = _numbers(node.inputs[0]), _numbers(node.inputs[1])
        if numbers is None or numbers.ndim != 1 or begin is None or begin.size != 1 or node.tensors[0].shape.rank:
            return None
        return int(numbers[int(begin[0])])
    numbers = _numbers(value)
    return int(numbers) if numbers is not None and not numbers.ndim else None
