"""Reads XLA's program of a step for a CPU.

XLA leaves out more than a graph shows: for a slice of a concatenation, everything that the slice does not need.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

Shape = tuple[int, ...]
_OPERATION = re.compile(r'op_name="([^"]*)"')
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = \w+\[([\d,]*)\]\S* ([\w-]+)\(([^)]*)\)(.*)$", re.MULTILINE)
_CONTRACTING = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_KERNEL = re.compile(r"dim_labels=\w+_(\w+)->")


@dataclass(frozen=True)
class Program:
    """The evidence in the text that a product of the graph is still there."""

    names: frozenset[str]
    """Names of the TensorFlow operations behind instructions; one that XLA has rewritten may lack its name."""
    products: int
    """Operations in matrix products and convolutions; a gradient may have more than in the graph."""

    def has(self, name: str) -> bool:
        """Whether any instruction comes from the operation, whose name may have its callers' as a prefix."""
        return name in self.names or any(each.endswith(f"/{name}") for each in self.names)


def read(text: str) -> Program:
    """Parse a program as `experimental_get_compiler_ir` returns it."""
    instructions: list[tuple[str, str, str, str, str]] = _INSTRUCTION.findall(text)
    shapes = {name: _sizes(dims) for name, dims, _, _, _ in instructions}
    products = sum(_products(kind, _sizes(dims), given, rest, shapes) for _, dims, kind, given, rest in instructions)
    return Program(frozenset(_OPERATION.findall(text)), products)


def _products(kind: str, output: Shape, given: str, rest: str, shapes: dict[str, Shape]) -> int:
    """Return the operations of an instruction that is a product, 0 for others."""
    operands = [shapes.get(each.split("%")[-1].strip(), ()) for each in given.split(", ")]
    if kind == "dot" and (axes := _CONTRACTING.search(rest)):
        summed = [operands[0][axis] for axis in _sizes(axes[1]) if axis < len(operands[0])]
    elif kind == "convolution" and (labels := _KERNEL.search(rest)):
        summed = [size for label, size in zip(labels[1], operands[1], strict=False) if label != "o"]
    else:
        return 0
    return 2 * math.prod(output) * math.prod(summed)


def _sizes(text: str) -> Shape:
    return tuple(int(size) for size in text.split(",") if size)
