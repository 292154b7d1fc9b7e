"""Gives every axis of a model's inputs a size: by the signature, else as the user says, else refused in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from nets.errors import InputError
from nets.inputs.given import Given, Setting

Sizes = tuple[int | None, ...]


@dataclass(frozen=True)
class Input:
    """One input tensor of a model."""

    name: str
    shape: Sizes
    """Without the batch; None for an open axis, until `closed`."""
    dtype: str
    length: int | None = None
    """The size of its time axis, where the signature leaves one open."""

    def spec(self, batch: int) -> tf.TensorSpec:
        return tf.TensorSpec([batch, *self.shape], self.dtype, name=self.name)

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype} {_listed(self.shape)}"


def closed(model: keras.Model, structure: Any, given: Given) -> Any:
    """Return the inputs with a size for every axis, in their structure.

    Raises InputError where one stays open, or does not take the size that the user gives it.
    """
    inputs: list[Input] = keras.tree.flatten(structure)
    settings = given.settings([each.name for each in inputs])
    made = [
        _closed(each, setting, given.length, single=len(inputs) == 1)
        for each, setting in zip(inputs, settings, strict=True)
    ]
    took_length = any(each.length is not None for each in made)
    if given.length is not None and not took_length:
        raise InputError(
            f"inputs.length={given.length}: expected {model.name} to have an input with one open axis. Received: "
            f"{'; '.join(map(str, inputs))}"
        )
    return keras.tree.pack_sequence_as(structure, made)


def _closed(each: Input, setting: Setting, length: int | None, *, single: bool) -> Input:
    places = [place for place, size in enumerate(each.shape) if size is None]
    if setting.dtype is not None and setting.dtype != each.dtype:
        raise InputError(
            f"inputs.{each.name}.dtype={setting.dtype}: expected {each.dtype}, as the model states. Leave dtype out"
        )
    key = "inputs" if single else f"+inputs.{each.name}"
    if setting.shape is not None:
        shape = _fitting(each, setting.shape, key)
        return replace(each, shape=shape, length=shape[places[0]] if len(places) == 1 else None)
    if not places:
        return each
    if len(places) == 1 and length is not None:
        shape = tuple(length if size is None else size for size in each.shape)
        return replace(each, shape=shape, length=length)
    wanted = "[" + ",".join("N" if size is None else str(size) for size in _as_written(each.shape)) + "]"
    way = f"inputs.length=N or {key}.shape={wanted}" if len(places) == 1 else f"{key}.shape={wanted}"
    raise InputError(f"expected inputs of known size. Received: {each}. Set {way}")


def _fitting(each: Input, written: tuple[int, ...], key: str) -> Sizes:
    """Return the shape that the user wrote, channels last, in the order of the model's axes. Raises InputError."""
    shape = in_order(written)
    if fits(each.shape, shape):
        return shape
    hint = " Leave the batch out" if len(written) == len(each.shape) + 1 else ""
    raise InputError(
        f"{key.lstrip('+')}.shape={_listed(written)}: expected sizes that fit {each.name}, {each.dtype} "
        f"{_listed(_as_written(each.shape))} without the batch, channels last.{hint}"
    )


def fits(sizes: Sizes, shape: Sizes) -> bool:
    """Whether a shape has these sizes, of which open ones fit any."""
    return len(sizes) == len(shape) and all(size in (None, other) for size, other in zip(sizes, shape, strict=True))


def in_order(shape: Sizes) -> Sizes:
    """Return a shape that is written channels last in the order of axes that Keras is set to."""
    first = keras.config.image_data_format() == "channels_first" and len(shape) > 1
    return (shape[-1], *shape[:-1]) if first else shape


def _as_written(shape: Sizes) -> Sizes:
    """Return a model's shape channels last."""
    first = keras.config.image_data_format() == "channels_first" and len(shape) > 1
    return (*shape[1:], shape[0]) if first else shape


def _listed(shape: Sequence[int | None]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
