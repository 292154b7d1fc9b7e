"""The config group `inputs`: the range that the integers of a net's inputs are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.wording import nearest, needs

KEYS = ("low", "high")
_EXAMPLE = "+inputs.NAME.high=30000"


def problems(inputs: Mapping[str, Any], task: str, model: Mapping[str, Any]) -> list[str]:
    """Return every problem of the group, as sentences. Which inputs a net has is only known once it is built."""
    if not inputs:
        return []
    if task != "benchmark":
        return [needs("inputs", "task=benchmark", f"task={task}")]
    if model["_target_"] is None:
        return [f"inputs: expected model._target_ with it, as {model['name']} takes images of floats."]
    refusals = []
    for name, setting in inputs.items():
        if not isinstance(setting, Mapping) or not setting:
            refusals.append(f"inputs.{name}={setting}: expected {' and '.join(KEYS)}, such as {_EXAMPLE}.")
            continue
        for key, value in setting.items():
            if key not in KEYS:
                refusals.append(f"inputs.{name}.{key}: an input has no key {key!r}.{nearest(str(key), KEYS)}")
            elif not isinstance(value, int) or isinstance(value, bool):
                refusals.append(f"inputs.{name}.{key}={value}: expected a whole number. Received: {value!r}.")
            elif abs(value) >= 2**63:
                refusals.append(f"inputs.{name}.{key}={value}: expected a number of at most 64 bits.")
        low, high = setting.get("low", 0), setting.get("high")
        if isinstance(low, int) and isinstance(high, int) and low >= high:
            refusals.append(
                f"inputs.{name}: expected low < high, which itself is never drawn. Received: low={low} high={high}."
            )
    return refusals
