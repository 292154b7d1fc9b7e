"""The config group `inputs`: what the user says about a model's inputs where its signature leaves something open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nets.inputs.given import KEYS, TARGET
from sweeps.wording import nearest, needs

_OF_ALL = ("length", TARGET)
_TYPES = (
    *("float16", "bfloat16", "float32", "float64", "bool"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
_LARGEST = 2**31 - 1
"""The largest size that TensorFlow's shapes take everywhere."""


def problems(
    inputs: Mapping[str, Any],
    task: str,
    model: Mapping[str, Any],
    target_problems: Callable[[str, Mapping[str, Any]], list[str]],
) -> list[str]:
    """Return every problem of the group, as sentences. Which inputs a model has is only known once it is built.

    `target_problems` returns what the source text shows to be wrong with a callable and its arguments.
    """
    if not inputs:
        return []
    if task != "benchmark":
        return [needs("inputs", "task=benchmark", f"task={task}")]
    if (target := inputs.get(TARGET)) is not None:
        if not isinstance(target, str):
            return [f"inputs.{TARGET}={target}: expected a dotted name, such as my_module.my_batch."]
        arguments = {key: value for key, value in inputs.items() if key != TARGET}
        return [f"inputs.{TARGET}: {each}" for each in target_problems(target, {"batch": 1, "seed": 0, **arguments})]
    if model["_target_"] is None and model.get("path") is None:
        return [
            f"inputs: expected model._target_ or model=file with it, or inputs.{TARGET}, as {model['name']} takes "
            "images of floats, whose size model.image_size sets."
        ]
    named = {name: setting for name, setting in inputs.items() if isinstance(setting, Mapping)}
    of_only = {key: value for key, value in inputs.items() if key not in named}
    return [*_of_only(of_only), *(problem for name, setting in named.items() for problem in _of_one(name, setting))]


def _of_only(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of keys without an input's name."""
    for key, value in values.items():
        if key == "length":
            if not _is_size(value):
                yield f"inputs.length={value}: expected a whole number of at least 1. Received: {value!r}."
        elif key not in KEYS:
            near = nearest(key, (*KEYS, *_OF_ALL))
            yield f"inputs.{key}={value}: inputs has no key {key!r}.{near} Of an input: +inputs.{key}.high=N."
    yield from _of_values("inputs", {key: value for key, value in values.items() if key in KEYS})


def _of_one(name: str, setting: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of one input's keys."""
    if not setting:
        yield f"inputs.{name}={{}}: expected {', '.join(KEYS)}, such as +inputs.{name}.shape=[128]."
    for key in setting:
        if key == "length":
            yield f"+inputs.{name}.length: expected inputs.length, for every open time axis, or +inputs.{name}.shape."
        elif key not in KEYS:
            yield f"inputs.{name}.{key}: an input has no key {key!r}.{nearest(str(key), KEYS)}"
    yield from _of_values(f"inputs.{name}", {key: value for key, value in setting.items() if key in KEYS})


def _of_values(prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    shape, dtype = values.get("shape"), values.get("dtype")
    if shape is not None and not (isinstance(shape, list | tuple) and all(map(_is_size, shape))):
        yield (
            f"{prefix}.shape={_text(shape)}: expected sizes without the batch, such as {prefix}.shape=[224,224,3]. "
            f"Received: {_text(shape)}."
        )
    if dtype is not None and dtype not in _TYPES:
        yield f"{prefix}.dtype={dtype}: expected a type of numbers.{nearest(str(dtype), _TYPES)}"
    ends = {key: values[key] for key in ("low", "high") if key in values}
    for key, value in ends.items():
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{prefix}.{key}={value}: expected a whole number. Received: {value!r}."
        elif abs(value) >= 2**63:
            yield f"{prefix}.{key}={value}: expected a number of at most 64 bits."
    low, high = ends.get("low", 0), ends.get("high")
    if isinstance(low, int) and isinstance(high, int) and low >= high:
        yield f"{prefix}: expected low < high, which itself is never drawn. Received: low={low} high={high}."


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _text(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
