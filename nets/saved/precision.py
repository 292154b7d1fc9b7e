"""Lets a saved model follow the precision that Keras is set to, as a model built from code does."""

from __future__ import annotations

from typing import Any

import keras

from nets.saved import objects

_BASE = "float32"


def follow(description: Any) -> None:
    """Remove from a description, in place, the type policy that its layers have in common.

    Every layer is saved with its policy, also where that was just Keras' setting at the time. In a model saved in mixed
    precision, layers that were kept in float32 keep it.
    """
    layers = list(_layers(description))
    policies = {_policy(layer["dtype"]) for layer in layers}
    mixed = policies & {"mixed_float16", "mixed_bfloat16"}
    common = mixed or {_BASE}
    for settings in layers:
        if _policy(settings["dtype"]) in common:
            del settings["dtype"]


def _layers(value: Any) -> Any:
    """Yield the settings of each layer with a policy; the type of an input or an operation is something else."""
    if isinstance(value, dict):
        settings = value.get("config")
        if isinstance(settings, dict) and "dtype" in settings and isinstance(value.get("class_name"), str):
            cls = objects.resolved(value)
            is_layer = isinstance(cls, type) and issubclass(cls, keras.layers.Layer)
            if is_layer and not issubclass(cls, keras.layers.InputLayer):
                yield settings
        for each in value.values():
            yield from _layers(each)
    elif isinstance(value, list):
        for each in value:
            yield from _layers(each)


def _policy(dtype: Any) -> Any:
    """Return the policy's name; None where it is not a plain one."""
    if isinstance(dtype, dict):
        settings = dtype.get("config")
        plain = dtype.get("class_name") in ("DTypePolicy", "Policy") and isinstance(settings, dict)
        return settings.get("name") if plain and isinstance(settings, dict) else None
    return dtype if isinstance(dtype, str) else None
