"""A model's inputs: the name, shape and type of each, in the structure that the model is called with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import keras
import tensorflow as tf

from nets.errors import InputError
from nets.inputs.given import ONLY, Given
from nets.inputs.sizes import Input, Sizes, closed, fits, in_order

_UNNAMED = "keras_tensor"
"""What Keras calls an input without a name, with a number that depends on what was built before."""


def inputs(model: keras.Model, given: Given | None = None) -> Any:
    """Return the model's inputs: one `Input`, or a list, tuple or dictionary of them, as in a call of the model.

    Sizes, and for a subclassed model types, that the model does not state are as the user has `given` them. A
    subclassed model that states no type takes floats or, where it cannot be called with these, 32-bit integers.
    Raises InputError, with what to set, for an input of unknown size and for one that cannot be fed.
    """
    given = given or Given()
    if isinstance(model, keras.Sequential) and not model.built:
        _build_sequential(model, given)
    if (tensors := _symbols(model)) is not None:
        declared = _declared(tensors)
        return closed(model, declared, given) if given.batch is None else _of_batch(model, declared, given.batch)
    if model not in _CALLED:
        _CALLED[model] = _called(model, given)
    return _CALLED[model]


_CALLED: WeakKeyDictionary[keras.Model, Any] = WeakKeyDictionary()
"""The inputs of subclassed models, which must be called to find them."""


def tells_types(model: keras.Model) -> bool:
    """Whether the model states the types of its inputs; a subclassed one does not."""
    return _symbols(model) is not None


def specs(structure: Any, batch: int) -> Any:
    """Return symbols for tracing the model with these inputs at this batch."""
    return keras.tree.map_structure(lambda each: each.spec(batch), structure)


def of_tensors(structure: Any) -> Any:
    """Return the `Input`s of a batch of tensors, batch first, in its structure; names are keys or places."""
    names = iter(_names(structure))
    return keras.tree.map_structure(
        lambda tensor: Input(next(names), tuple(tensor.shape[1:]), tf.as_dtype(tensor.dtype).name), structure
    )


def _symbols(model: keras.Model) -> Any:
    """Return the `keras.Input`s of a functional or sequential model in their structure; None for a subclassed one."""
    return getattr(getattr(model, "_functional", None) or model, "_inputs_struct", None)


def _declared(tensors: Any) -> Any:
    """Return the inputs as the model states them, with None for open axes. Raises InputError for one with gaps."""
    names = iter(_names(tensors))

    def declared(tensor: Any) -> Input:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        each = Input(next(names), tuple(tensor.shape[1:]), dtype)
        kind = next((kind for kind in ("sparse", "ragged") if getattr(tensor, kind, False)), None)
        if kind is not None:
            raise InputError(f"expected dense inputs. Received: {each}, which is {kind}; take a dense keras.Input")
        return each

    return keras.tree.map_structure(declared, tensors)


def _names(structure: Any) -> list[str]:
    """Return a name for each input, in order: its key in a dictionary, else the tensor's own, else by its place."""
    keyed = [*_keyed(structure, "")]
    single = len(keyed) == 1
    names = []
    for place, (key, tensor) in enumerate(keyed):
        stated = str(getattr(tensor, "name", _UNNAMED)) if not isinstance(tensor, tf.Tensor) else _UNNAMED
        unnamed = stated.startswith(_UNNAMED)
        names.append(key or (stated if not unnamed else ONLY if single else f"{ONLY}_{place}"))
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)]


def _keyed(structure: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors in the order in which Keras flattens the structure, each with the nearest key above it."""
    if isinstance(structure, dict):
        for name in sorted(structure):
            yield from _keyed(structure[name], str(name))
    elif isinstance(structure, list | tuple):
        for each in structure:
            yield from _keyed(each, "")
    else:
        yield key, structure


def _of_batch(model: keras.Model, declared: Any, batch: Any) -> Any:
    """Return the model's inputs with the sizes of the user's own batch. Raises InputError where they do not fit."""
    wanted, made = keras.tree.flatten(declared), keras.tree.flatten(batch)
    try:
        keras.tree.assert_same_structure(declared, batch)
    except (TypeError, ValueError):
        raise InputError(
            f"expected a batch in the structure of {model.name}'s inputs, {_shown(declared)}. Received: {_shown(batch)}"
        ) from None
    sized = []
    for each, other in zip(wanted, made, strict=True):
        shape = in_order(other.shape)
        if not fits(each.shape, shape):
            raise InputError(f"expected a batch of samples that fit {each}. Received: {other}")
        length = shape[each.shape.index(None)] if each.shape.count(None) == 1 else None
        sized.append(replace(each, shape=shape, length=length))
    return keras.tree.pack_sequence_as(declared, sized)


def _shown(structure: Any) -> str:
    return str(keras.tree.map_structure(lambda each: each.name, structure)).replace("'", "")


def _build_sequential(model: keras.Sequential, given: Given) -> None:
    """Build a sequential model without an input layer for the shape that the user gives."""
    if given.batch is not None:
        shape: Sizes | None = given.batch.shape if isinstance(given.batch, Input) else None
    else:
        (setting,) = given.settings([ONLY])
        shape = None if setting.shape is None else in_order(setting.shape)
    if shape is None:
        raise InputError(_unknown(model))
    model.build((None, *shape))


def _called(model: keras.Model, given: Given) -> Any:
    """Return inputs with which a subclassed model can be called; this creates its variables."""
    if given.batch is not None:
        taken = keras.tree.map_structure(lambda each: replace(each, shape=in_order(each.shape)), given.batch)
        _build(model, taken, given.batch_size)
        return taken
    declared = _stated_by_subclass(model, given)
    structure = closed(model, declared, _without_types(given))
    types = [setting.dtype for setting in given.settings([each.name for each in keras.tree.flatten(structure)])]
    last: Exception | None = None
    for dtype in (keras.config.floatx(), "int32"):
        typed = [
            Input(each.name, each.shape, stated or dtype, each.length)
            for each, stated in zip(keras.tree.flatten(structure), types, strict=True)
        ]
        taken = keras.tree.pack_sequence_as(structure, typed)
        try:
            _build(model, taken, given.batch_size)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            last = last or error
        else:
            return taken
    assert last is not None
    raise last


def _without_types(given: Given) -> Given:
    """Return what is given but the types, which a subclassed model does not state."""
    named = {name: replace(setting, dtype=None) for name, setting in given.by_name.items()}
    return replace(given, by_name=named, only=replace(given.only, dtype=None))


def _stated_by_subclass(model: keras.Model, given: Given) -> Any:
    """Return the inputs that a subclassed model was built with, else those whose shapes the user gives.

    Their types are unknown. Raises InputError without either.
    """
    dtype = keras.config.floatx()
    if (stated := _built_with(model)) is not None:
        structure = _structure(*stated, dtype)
        inputs: list[Input] = keras.tree.flatten(structure)
        settings = given.settings([each.name for each in inputs])
        # It was built with these sizes, but takes others as well.
        sized = [
            each if setting.shape is None else replace(each, shape=in_order(setting.shape))
            for each, setting in zip(inputs, settings, strict=True)
        ]
        return keras.tree.pack_sequence_as(structure, sized)
    name = _first_argument(model)
    named = {key: setting.shape for key, setting in given.by_name.items() if setting.shape is not None}
    if given.only.shape is not None:
        return Input(name, in_order(given.only.shape), dtype)
    if len(named) == 1 and next(iter(named)) in (name, ONLY):
        return Input(name, in_order(*named.values()), dtype)
    if named and set(named) == set(given.by_name):
        return {key: Input(key, in_order(shape), dtype) for key, shape in named.items()}
    raise InputError(_unknown(model))


def _unknown(model: keras.Model) -> str:
    return (
        f"expected inputs of known size. Received: {model.name}, a {type(model).__name__} that was not built. Set "
        "inputs.shape=[N,...], the sizes of its input without the batch; +inputs.NAME.shape for each of several by "
        "key; or inputs._target_, a callable that makes the batch"
    )


def _built_with(model: keras.Model) -> tuple[str, Any] | None:
    """Return the argument's name and the shape, or structure of shapes, that a subclassed model was built with."""
    if signature := getattr(model.call, "input_signature", None):
        return signature[0].name or "inputs", tuple(signature[0].shape)
    if shape := getattr(model, "input_shape", None):  # it states it, like a functional model
        return "inputs", shape
    config = model.get_build_config() if model.built else None
    shapes = config.get("shapes_dict") or config if config else None
    if not shapes:
        return None
    first = _first_argument(model)
    if len(shapes) > 1:
        raise InputError(_several_arguments(model))
    (shape,) = shapes.values()
    return None if shape is None else (first, shape)


def _first_argument(model: keras.Model) -> str:
    """Return the name of the argument that takes the inputs. Raises InputError where the model needs others."""
    (first, *others) = [
        name
        for name, parameter in inspect.signature(model.call).parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in ("training", "mask")
    ] or ["inputs"]
    if [name for name in others if not name.endswith("args")]:
        raise InputError(_several_arguments(model))
    return first


def _several_arguments(model: keras.Model) -> str:
    names = [name for name in inspect.signature(model.call).parameters if name not in ("training", "mask")]
    return (
        f"expected {model.name} to take one argument: several tensors go in as one list or dictionary. "
        f"Received: call({', '.join(names)})"
    )


def _structure(name: str, shapes: Any, dtype: str) -> Any:
    """Return `Input`s in the structure of the shapes, batch first."""
    if isinstance(shapes, dict):
        return {key: _structure(key, shape, dtype) for key, shape in shapes.items()}
    if isinstance(shapes, Sequence) and any(isinstance(each, list | tuple | dict) for each in shapes):
        return [_structure(f"{name}_{place}", shape, dtype) for place, shape in enumerate(shapes)]
    return Input(name, tuple(shapes[1:]), dtype)


def _build(model: keras.Model, structure: Any, batch: int) -> None:
    """Call the model with symbols: its layers create their variables, nothing is computed."""
    tensors = keras.tree.map_structure(lambda each: keras.KerasTensor((batch, *each.shape), each.dtype), structure)
    model(tensors, training=False)
