"""Mends what Keras 3 gets wrong when it compiles the model of an `.h5` file as it was saved."""

from __future__ import annotations

from typing import Any

import keras

_NAMED = {"loss": keras.losses.get, "metrics": keras.metrics.get, "weighted_metrics": keras.metrics.get}


def spell_out(training: dict[str, Any]) -> None:
    """Replace short names of losses and metrics, such as `mse`, by the full ones, in place.

    Keras takes the short ones in `compile` and saves them, but fails to find them in a file.
    """
    for key, get in _NAMED.items():
        if key in training:
            training[key] = _spelt_out(training[key], get)


def renew_optimizer(model: Any) -> None:
    """Give a compiled model a new optimizer of the same settings, without a state.

    Keras builds that of an `.h5` file for no variables at all, after which it can update none.
    """
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.Optimizer):
        model.optimizer = type(optimizer).from_config(optimizer.get_config())


def _spelt_out(value: Any, get: Any) -> Any:
    if isinstance(value, list):
        return [_spelt_out(each, get) for each in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {name: _spelt_out(each, get) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    try:
        return getattr(get(value), "__name__", value)
    except ValueError:  # "accuracy", which depends on the outputs
        return value
