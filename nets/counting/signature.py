"""A model's inputs: the name, shape and type of each, in the structure that the model is called with."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Input:
    """One input tensor of a model; `shape` leaves out the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def spec(self, batch: int) -> tf.TensorSpec:
        return tf.TensorSpec([batch, *self.shape], self.dtype, name=self.name)


def inputs(model: keras.Model) -> Any:
    """Return the model's inputs: one `Input`, or a list, tuple or dictionary of them, as in a call of the model.

    Raises ValueError, with what to do, where they are unknown. For a subclassed model only shapes are known: its inputs
    are floats or, where it cannot be called with floats, 32-bit integers.
    """
    if (tensors := _symbols(model)) is not None:
        return _of_symbols(model, tensors)
    if model not in _CALLED:
        _CALLED[model] = _called(model)
    return _CALLED[model]


_CALLED: WeakKeyDictionary[keras.Model, Any] = WeakKeyDictionary()
"""The inputs of subclassed models, which must be called to find them."""


def _called(model: keras.Model) -> Any:
    """Return inputs with which a subclassed model can be called; this creates its variables."""
    name, shapes = _built_with(model)
    last: Exception | None = None
    for dtype in (keras.config.floatx(), "int32"):
        structure = _structure(model, name, shapes, dtype)
        try:
            _build(model, structure)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            last = last or error
        else:
            return structure
    assert last is not None
    raise last


def tells_types(model: keras.Model) -> bool:
    """Whether the model states the types of its inputs; a subclassed one does not."""
    return _symbols(model) is not None


def specs(structure: Any, batch: int) -> Any:
    """Return symbols for tracing the model with these inputs at this batch."""
    return keras.tree.map_structure(lambda each: each.spec(batch), structure)


def ensure_built(model: keras.Model) -> None:
    """Create the variables that a subclassed model creates on its first call.

    Raises ValueError where its inputs are unknown.
    """
    inputs(model)


def _symbols(model: keras.Model) -> Any:
    """Return the `keras.Input`s of a functional or sequential model in their structure; None for a subclassed one."""
    return getattr(getattr(model, "_functional", None) or model, "_inputs_struct", None)


def _of_symbols(model: keras.Model, tensors: Any, name: str | None = None) -> Any:
    if isinstance(tensors, dict):
        return {key: _of_symbols(model, tensor, key) for key, tensor in tensors.items()}
    if isinstance(tensors, list | tuple):
        return type(tensors)(_of_symbols(model, tensor) for tensor in tensors)
    dtype = keras.backend.standardize_dtype(tensors.dtype)
    return Input(name or tensors.name, _sizes(model, tensors.shape), dtype)


def _built_with(model: keras.Model) -> tuple[str, Any]:
    """Return the argument's name and the shape, or structure of shapes, that a subclassed model was built with."""
    if signature := getattr(model.call, "input_signature", None):
        return signature[0].name or "inputs", tuple(signature[0].shape)
    if shape := getattr(model, "input_shape", None):  # it states it, like a functional model
        return "inputs", shape
    config = model.get_build_config() if model.built else None
    shapes = config.get("shapes_dict") or config if config else None
    if not shapes:
        raise ValueError(
            f"expected {model.name} to say what it takes: give it a keras.Input, or build it before it is returned, "
            f"as model.build((None, height, width, channels)). Received: a {type(model).__name__} that was not built"
        )
    (first, *others) = [
        name
        for name, parameter in inspect.signature(model.call).parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in ("training", "mask")
    ] or ["inputs"]
    if len(shapes) > 1 or [name for name in others if not name.endswith("args")]:
        raise ValueError(
            f"expected {model.name} to take one argument: several tensors go in as one list or dictionary. "
            f"Received: call({', '.join([first, *others])})"
        )
    (shape,) = shapes.values()
    return first, shape


def _structure(model: keras.Model, name: str, shapes: Any, dtype: str) -> Any:
    """Return `Input`s in the structure of the shapes."""
    if isinstance(shapes, dict):
        return {key: _structure(model, key, shape, dtype) for key, shape in shapes.items()}
    if isinstance(shapes, list | tuple) and any(isinstance(each, list | tuple | dict) for each in shapes):
        return [_structure(model, f"{name}_{place}", shape, dtype) for place, shape in enumerate(shapes)]
    return Input(name, _sizes(model, shapes), dtype)


def _sizes(model: keras.Model, shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape[1:]) if shape is not None else None
    if sizes is None or not all(isinstance(size, int) for size in sizes):
        raise ValueError(
            f"expected {model.name} to have inputs of known size. Received: input_shape={shape}; "
            "give its keras.Input, or its build, every size but the batch's"
        )
    return sizes


def _build(model: keras.Model, structure: Any) -> None:
    """Call the model with symbols: its layers create their variables, nothing is computed."""
    tensors = keras.tree.map_structure(lambda each: keras.KerasTensor((1, *each.shape), each.dtype), structure)
    model(tensors, training=False)
