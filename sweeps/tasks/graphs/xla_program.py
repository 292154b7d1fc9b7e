"""What XLA has made of a step for a processor, told from the text of its program.

XLA leaves out more than a graph shows: a slice of a concatenation drops whatever the slice does not need.
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
    """What shows in the text that a product of the graph is still there."""

    names: frozenset[str]
    """TensorFlow's operations that instructions come from. One that XLA has rewritten may have lost its name."""
    products: int
    """Operations of matrix products and convolutions. Those of a gradient may be more than the graph's."""

    def has(self, name: str) -> bool:
        """Whether any instruction comes from the operation; the name of what calls its function is put before it."""
        return name in self.names or any(each.endswith(f"/{name}") for each in self.names)


def read(text: str) -> Program:
    """The program of a text of instructions, as `experimental_get_compiler_ir` gives it."""
    instructions: list[tuple[str, str, str, str, str]] = _INSTRUCTION.findall(text)
    shapes = {name: _sizes(dims) for name, dims, _, _, _ in instructions}
    products = sum(_products(kind, _sizes(dims), given, rest, shapes) for _, dims, kind, given, rest in instructions)
    return Program(frozenset(_OPERATION.findall(text)), products)


def _products(kind: str, output: Shape, given: str, rest: str, shapes: dict[str, Shape]) -> int:
    """Operations of an instruction that is a product, 0 of others."""
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
