"""Flattens a traced function into one graph, with called functions, branches and loop bodies inlined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

Shape = tuple[int, ...] | None
"""None where it is not fully known."""

_BRANCHES = {"If": ("then_branch", "else_branch"), "StatelessIf": ("then_branch", "else_branch")}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")
PARAMETER, MERGE, LOOP, LOOP_VARIABLE = "Parameter", "Branches", "Loop", "LoopVariable"
"""Kinds of nodes for a function's input, the output of branches or of a loop, and a loop's variable."""


@dataclass(eq=False)
class Node:
    """One operation, with where its inputs come from."""

    kind: str
    inputs: list[Value]
    shapes: list[Shape]
    dtypes: list[tf.DType]
    operation: Any = None
    """TensorFlow's own; None for the kinds above."""
    tensors: list[Any] = field(default_factory=list)
    looped: bool = False
    """It is in the body of a loop and runs any number of times."""
    optional: bool = False
    """It is in a branch, which may not run."""


Value = tuple[Node, int]
"""A node and the index of one of its outputs."""


@dataclass
class FlatGraph:
    """Nodes, each after its inputs, except in the circles of loops in an optimised graph."""

    nodes: list[Node] = field(default_factory=list)
    parameters: list[Node] = field(default_factory=list)
    """The function's inputs, captured variables included, in their places; one that is optimised away has no tensor."""
    outputs: list[Value] = field(default_factory=list)


def of_function(function: Any) -> FlatGraph:
    """Return a concrete function's graph as it was traced."""
    flat = FlatGraph()
    graph = function.graph
    for tensor in graph.inputs:
        flat.parameters.append(_add(flat, PARAMETER, [], [tensor]))
    values = _fill(flat, graph, graph.inputs, [(node, 0) for node in flat.parameters], _Where())
    flat.outputs = [values[_key(tensor)] for tensor in graph.outputs]
    return flat


def of_definition(definition: Any) -> FlatGraph:
    """Return a function's graph as TensorFlow optimised it: inputs are `_Arg` operations, outputs `_Retval`."""
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(definition, name="")
    flat = FlatGraph()
    arguments = sorted((each for each in graph.get_operations() if each.type == "_Arg"), key=_index)
    tensors = {_index(each): each.outputs[0] for each in arguments}
    for place in range(max(tensors, default=-1) + 1):
        flat.parameters.append(_add(flat, PARAMETER, [], [tensors[place]] if place in tensors else []))
    given = [(flat.parameters[place], 0) for place in tensors]
    values = _fill(flat, graph, list(tensors.values()), given, _Where())
    results = sorted((each for each in graph.get_operations() if each.type == "_Retval"), key=_index)
    flat.outputs = [values[_key(each.inputs[0])] for each in results]
    return flat


def reachable(values: Sequence[Value], follow: Callable[[Node], bool] = lambda _: True) -> set[Node]:
    """Return the nodes that the values are computed from; `follow` decides whether to go on to a node's inputs."""
    seen: set[Node] = set()
    waiting = [node for node, _ in values]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            if follow(node):
                waiting += [source for source, _ in node.inputs]
    return seen


def constant(value: Value) -> Any:
    """Return the numbers of a constant as an array; None for any other value."""
    node, _ = value
    while node.kind == "Identity":
        node, _ = node.inputs[0]
    if node.kind != "Const":
        return None
    return tf.make_ndarray(node.operation.get_attr("value"))


@dataclass(frozen=True)
class _Where:
    looped: bool = False
    optional: bool = False


def _add(flat: FlatGraph, kind: str, inputs: list[Value], tensors: Sequence[Any], operation: Any = None) -> Node:
    node = Node(kind, inputs, [_shape(each) for each in tensors], [each.dtype for each in tensors], operation)
    node.tensors = list(tensors)
    flat.nodes.append(node)
    return node


def _fill(
    flat: FlatGraph, graph: Any, inputs: Sequence[Any], given: Sequence[Value], where: _Where
) -> dict[Any, Value]:
    """Add the nodes of a graph whose inputs are `given`; return the origin of each of its tensors."""
    values: dict[Any, Value] = {_key(tensor): value for tensor, value in zip(inputs, given, strict=True)}
    for operation in _sorted(graph.get_operations()):
        if all(_key(tensor) in values for tensor in operation.outputs) and operation.outputs:
            continue  # an input
        sources = [values[_key(tensor)] for tensor in operation.inputs if _key(tensor) in values]
        for tensor, value in zip(operation.outputs, _place(flat, graph, operation, sources, where), strict=True):
            values[_key(tensor)] = value
    return values


def _place(flat: FlatGraph, graph: Any, operation: Any, sources: list[Value], where: _Where) -> list[Value]:
    """Add an operation, or the functions that it calls; return the origins of its outputs."""
    if operation.type in _CALLS:
        # Once a function of a SavedModel was differentiated, it also returns what its gradient needs, in the end.
        return _called(flat, graph, operation.get_attr("f").name, sources, where)[: len(operation.outputs)]
    if operation.type in _BRANCHES or operation.type == "Case":
        if operation.type == "Case":
            names = [each.name for each in operation.get_attr("branches")]
        else:
            names = [operation.get_attr(branch).name for branch in _BRANCHES[operation.type]]
        inside = _Where(where.looped, optional=True)
        ends = [_called(flat, graph, name, sources[1:], inside) for name in names]
        merged = []
        for place, tensor in enumerate(operation.outputs):
            node = _add(flat, MERGE, [sources[0], *(end[place] for end in ends)], [tensor])
            merged.append((node, 0))
        return merged
    if operation.type in _LOOPS:
        variables = []
        for tensor, source in zip(operation.inputs, sources, strict=True):
            node = _add(flat, LOOP_VARIABLE, [source, *sources], [tensor])
            variables.append((node, 0))
        inside = _Where(looped=True, optional=where.optional)
        condition = _called(flat, graph, operation.get_attr("cond").name, variables, inside)
        body = _called(flat, graph, operation.get_attr("body").name, variables, inside)
        ends_of = []
        for start, end, tensor in zip(sources, body, operation.outputs, strict=True):
            ends_of.append((_add(flat, LOOP, [start, end, *condition], [tensor]), 0))
        return ends_of
    node = _add(flat, operation.type, sources, operation.outputs, operation)
    node.looped, node.optional = where.looped, where.optional
    return [(node, place) for place in range(len(operation.outputs))]


def _called(flat: FlatGraph, graph: Any, name: str, sources: list[Value], where: _Where) -> list[Value]:
    """Add the nodes of a function in the graph's library; return the origins of its outputs."""
    function = graph._get_function(name)
    if isinstance(graph, FuncGraph):
        body = function.graph
    else:  # an imported graph has functions without shapes
        shapes = [node.tensors[place].shape for node, place in sources]
        with graph.as_default():
            body = function_def_to_graph(function.cached_definition, input_shapes=shapes)
    values = _fill(flat, body, body.inputs, sources, where)
    return [values[_key(tensor)] for tensor in body.outputs]


def _sorted(operations: Sequence[Any]) -> list[Any]:
    """Sort operations after those of their inputs; those in a circle come last."""
    missing = {each.name: len({tensor.op.name for tensor in each.inputs}) for each in operations}
    users: dict[str, list[Any]] = {}
    for each in operations:
        for name in {tensor.op.name for tensor in each.inputs}:
            users.setdefault(name, []).append(each)
    ready = [each for each in operations if not missing[each.name]]
    for each in ready:  # the list grows meanwhile
        for user in users.get(each.name, ()):
            missing[user.name] -= 1
            if not missing[user.name]:
                ready.append(user)
    return ready + [each for each in operations if missing[each.name]]


def _key(tensor: Any) -> Any:
    return tensor.ref()


def _index(operation: Any) -> int:
    return int(operation.get_attr("index"))


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.shape) if tensor.shape.is_fully_defined() else None
