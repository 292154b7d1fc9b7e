"""Makes a net's fixed batch, from the inputs that it declares and from how its graph uses them.

- Floats: normal(0, 0.1) by the trial's seed.
- Truth values: half of them true.
- Whole numbers that are looked up (an embedding, a gather, a one-hot, a vocabulary): uniform over the range that all
  their lookups allow; from 1 where 0 stands for padding. The same holds for floats that the net turns into indices.
- Whole numbers of 8 bits that are not looked up, as in an image: uniform over the range of the type.
- Other whole numbers: as `inputs.NAME.low` and `inputs.NAME.high` say. Without these, they are refused: a wrong guess
  would time something else.

A batch that the user's own callable makes is fed as it is, once it is known to be legal.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nets.counting.layers import Trace
from nets.errors import InputError
from nets.inputs import given, signature
from nets.inputs.given import Setting
from nets.inputs.sizes import Input
from sweeps.tasks.graphs import flat_graph, positions
from sweeps.tasks.graphs.batches import Batch
from sweeps.tasks.graphs.lookups import Usage, usages
from tracking.record import Trial
from tracking.schema.flat import flatten


@dataclass(frozen=True)
class Fed:
    """One fixed batch in the net's structure, with facts about it."""

    tensors: Any
    facts: Mapping[str, Mapping[str, Any]]
    """By input: dtype, shape, lowest and highest value; for whole numbers and truth values, how many are distinct; for
    sequences, their length."""
    targets: Any = None
    """What the user's own batch has for the loss, in the structure that `fit` takes; None without."""


def feed(trial: Trial, trace: Trace, batch: Batch | None = None) -> Fed:
    """Make the batch of a trial for the traced net, or take the user's own. Raises InputError, which says what to set.

    A batch for several GPUs is in the machine's memory: on one GPU it would take room beside that GPU's part.
    """
    inputs: list[Input] = keras.tree.flatten(trace.inputs)
    known = _usages(trace)
    settings = given.read(trial.inputs).settings([each.name for each in inputs])
    users = None if batch is None else keras.tree.flatten(batch.tensors)
    is_typed = signature.tells_types(trace.model)
    made, facts = [], {}
    with tf.device("CPU:0") if trial.device.gpus > 1 else contextlib.nullcontext():
        for place, (each, usage, setting) in enumerate(zip(inputs, known, settings, strict=True)):
            moved = trial.layout == "channels_first" and len(each.shape) > 1
            if users is not None:
                values = _legal(each, usage, users[place])
            else:
                each, draw = _drawing(each, usage, setting, is_typed=is_typed)
                shape = [trial.batch, *(size or 0 for size in each.shape)]
                values = draw((shape[0], *shape[2:], shape[1]) if moved else tuple(shape), trial.seed + place)
            tensor = keras.ops.moveaxis(values, -1, 1) if moved else values
            made.append(tensor)
            facts[each.name] = _facts(tensor, whole=_whole(each, usage)) | _length(each, usage)
    for name, fact in facts.items():
        print(f"fed {name}:", ", ".join(f"{key} {value}" for key, value in fact.items()))
    return Fed(keras.tree.pack_sequence_as(trace.inputs, made), facts, None if batch is None else batch.targets)


def expect_known(trial: Trial, trace: Trace) -> None:
    """Raise InputError where `feed` would not know what to make for the traced net; nothing is made."""
    inputs: list[Input] = keras.tree.flatten(trace.inputs)
    settings = given.read(trial.inputs).settings([each.name for each in inputs])
    is_typed = signature.tells_types(trace.model)
    for each, usage, setting in zip(inputs, _usages(trace), settings, strict=True):
        _drawing(each, usage, setting, is_typed=is_typed)


def expect_allowed(fed: Fed, trace: Trace) -> None:
    """Raise InputError where another trace of the net, as in training mode, has a lookup with fewer rows."""
    for each, usage in zip(keras.tree.flatten(trace.inputs), _usages(trace), strict=True):
        highest = fed.facts[each.name].get("highest")
        if usage.high is not None and highest is not None and highest >= usage.high:
            raise InputError(
                f"expected numbers below {usage.high} for {each.name}, as a lookup in training mode has so many rows. "
                f"Received: {highest}; set +inputs.{each.name}.high={usage.high}"
            )


def expect_legal(trial: Trial, fed: Fed, trace: Trace) -> None:
    """Raise InputError where a lookup with a calculated index lacks the row.

    The graph does not show it, so the net is run once on the CPU, whose kernels refuse what XLA and GPUs replace.
    """
    if not any(usage.arithmetic for usage in _usages(trace)):
        return
    try:
        with tf.device("CPU:0"):
            trace.model(fed.tensors, training=False)
    except tf.errors.InvalidArgumentError as error:
        cause = next((line for line in str(error).splitlines() if "is not in" in line), str(error).splitlines()[0])
        received = " ".join(f"inputs.{key}={text}" for key, text in flatten(trial.inputs).items())
        raise InputError(f"expected numbers that the net's lookups allow. Received: {received}: {cause}") from error


def _usages(trace: Trace) -> list[Usage]:
    """Return the usage of each input. Raises InputError where the net looks up positions that its tables lack."""
    count = len(keras.tree.flatten(trace.inputs))
    flat = flat_graph.of_function(trace.function)
    for each in positions.missing(flat):
        raise InputError(
            f"expected rows below {each.rows} to be looked up in {each.layer}, which has so many. Received: row "
            f"{each.row}, as the input is too long; set a smaller inputs.length, or +inputs.NAME.shape"
        )
    return usages(flat, trace.function, count)


def _legal(each: Input, usage: Usage, tensor: tf.Tensor) -> tf.Tensor:
    """Return the user's own values in the input's type. Raises InputError where the net does not take them."""
    wanted, made = tf.as_dtype(each.dtype), tensor.dtype
    numbers = made.is_integer or (wanted.is_floating and made.is_floating)
    if wanted != made and not (numbers and (wanted.is_floating or wanted.is_integer)):
        raise InputError(f"expected a batch with {each.dtype} for {each.name}. Received: {made.name}")
    if usage.high is not None or (wanted.is_integer and wanted != made):
        most = int(wanted.max) if wanted.is_integer else 2**24
        least = 0 if usage.high is not None else int(wanted.min)
        most = most if usage.high is None else min(most, usage.high - 1)
        low, high = int(tf.reduce_min(tensor)), int(tf.reduce_max(tensor))
        if low < least or high > most:
            raise InputError(
                f"expected a batch with numbers from {least} to {most} for {each.name}, which the net looks up or "
                f"holds as {each.dtype}. Received: {low} to {high}"
            )
    return tensor if wanted == made else tf.cast(tensor, wanted)


def _length(each: Input, usage: Usage) -> dict[str, int]:
    """Return the length of a sequence: of an open time axis, or of whole numbers in a row that are looked up."""
    if each.length is not None:
        return {"length": each.length}
    if len(each.shape) == 1 and usage.in_row and each.shape[0] is not None:
        return {"length": each.shape[0]}
    return {}


def _whole(each: Input, usage: Usage) -> bool:
    """Whether the numbers are whole, by type or because they become indices."""
    return tf.as_dtype(each.dtype).is_integer or usage.high is not None


Draw = Callable[[tuple[int, ...], int], tf.Tensor]
"""Makes values of this shape, batch first, from this seed."""


def _drawing(each: Input, usage: Usage, setting: Setting, *, is_typed: bool) -> tuple[Input, Draw]:
    """Return the input with its type, and what draws its values. Raises InputError where it is not known what is legal.

    `is_typed`: whether the model states types.
    """
    if not is_typed and usage.high is not None and setting.dtype is None:
        each = replace(each, dtype="int32")
    dtype = tf.as_dtype(each.dtype)
    ranged = setting.low is not None or setting.high is not None
    if ranged and not _whole(each, usage):
        raise InputError(f"inputs.{each.name}: expected an input of whole numbers. Received: {each}")
    if usage.keys is not None and not ranged:
        return each, partial(_keys_drawn, usage.keys, dtype)
    if _whole(each, usage):
        return each, partial(_whole_drawn, *_range(each, usage, setting), dtype)
    if dtype.is_floating:
        return each, lambda shape, seed: keras.random.normal(shape, stddev=0.1, dtype=each.dtype, seed=seed)
    if dtype == tf.bool:
        return each, _half_true
    raise InputError(
        f"expected inputs of floats, whole numbers or truth values. Received: {each}. Set inputs._target_ to a "
        "callable that makes the batch"
    )


def _keys_drawn(keys: Any, dtype: tf.DType, shape: tuple[int, ...], seed: int) -> tf.Tensor:
    drawn = np.random.default_rng(seed).integers(0, len(keys), shape)
    return tf.cast(keys[drawn], dtype) if dtype != tf.string else tf.constant(keys[drawn])


def _whole_drawn(low: int, high: int, dtype: tf.DType, shape: tuple[int, ...], seed: int) -> tf.Tensor:
    return tf.cast(tf.constant(np.random.default_rng(seed).integers(low, high, shape)), dtype)


def _half_true(shape: tuple[int, ...], seed: int) -> tf.Tensor:
    places = np.random.default_rng(seed).permutation(math.prod(shape))
    return tf.constant((places % 2 == 0).reshape(shape))


def _range(each: Input, usage: Usage, setting: Setting) -> tuple[int, int]:
    """Return the lowest number to feed, and one more than the highest. Raises InputError where they are unknown."""
    dtype = tf.as_dtype(each.dtype)
    low, high = usage.low, usage.high
    if high is not None and low >= high:
        low = 0
    if usage.narrow:
        raise InputError(
            f"expected an input with room for {high} distinct numbers. Received: {each}, which goes through "
            f"{usage.narrow} before it is looked up; give the keras.Input dtype='int32'"
        )
    key = f"+inputs.{each.name}.high=N"
    if usage.arithmetic and setting.high is None:
        raise InputError(
            f"the range of {each} is not known: the net calculates with it before it looks it up. "
            f"Set {key}; whole numbers below N are fed"
        )
    if setting.low is None and setting.high is None and high is None:
        if dtype.size > 1:
            raise InputError(
                f"the range of {each} is not known: the net does not look it up. Set {key}; whole numbers below N "
                "are fed"
            )
        return int(dtype.min), int(dtype.max) + 1
    wanted_low = low if setting.low is None else setting.low
    wanted_high = high if setting.high is None else setting.high
    if wanted_high is None:
        raise InputError(f"the range of {each} is not known. Set {key}, too; whole numbers below N are fed")
    if wanted_low >= wanted_high:
        raise InputError(f"inputs.{each.name}: expected low < high. Received: low={wanted_low} high={wanted_high}")
    if high is not None and not (wanted_low >= 0 and wanted_high <= high):
        raise InputError(
            f"inputs.{each.name}: expected low of at least 0 and high of at most {high}, as many as the net looks up "
            f"among. Received: low={wanted_low} high={wanted_high}"
        )
    most = int(dtype.max) if dtype.is_integer else 2**24
    if wanted_high - 1 > most or (dtype.is_integer and wanted_low < dtype.min):
        raise InputError(
            f"inputs.{each.name}: expected numbers that {each.dtype} holds, at most {most}. Received: low={wanted_low} "
            f"high={wanted_high}; set +inputs.{each.name}.high, or give the keras.Input dtype='int32'"
        )
    return wanted_low, wanted_high


def _facts(tensor: tf.Tensor, whole: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"dtype": tensor.dtype.name, "shape": list(tensor.shape)}
    if tensor.dtype == tf.string:
        return facts | {"distinct": len(np.unique(tensor.numpy()))}
    if whole or tensor.dtype == tf.bool:
        values = tensor.numpy()
        ends = {"lowest": int(values.min()), "highest": int(values.max())}
        return facts | ends | {"distinct": len(np.unique(values))}
    low, high = tf.reduce_min(tensor), tf.reduce_max(tensor)
    return facts | {"lowest": round(float(low), 6), "highest": round(float(high), 6)}
