"""The config group `inputs`: what the whole numbers of a net's inputs are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.wording import nearest

KEYS = ("low", "high")
_EXAMPLE = "+inputs.NAME.high=30000"


def problems(inputs: Mapping[str, Any], task: str, model: Mapping[str, Any]) -> list[str]:
    """What is wrong with the group, a sentence each. Which inputs a net has is known when it is built."""
    if not inputs:
        return []
    if task != "benchmark":
        return [f"inputs: expected task=benchmark with it. Received: task={task}."]
    if model["_target_"] is None:
        return [f"inputs: expected model._target_ with it, as {model['name']} takes images of floats."]
    found = []
    for name, setting in inputs.items():
        if not isinstance(setting, Mapping) or not setting:
            found.append(f"inputs.{name}={setting}: expected {' and '.join(KEYS)}, as {_EXAMPLE}.")
            continue
        for key, value in setting.items():
            if key not in KEYS:
                found.append(f"inputs.{name}.{key}: an input has no key {key!r}.{nearest(str(key), KEYS)}")
            elif not isinstance(value, int) or isinstance(value, bool):
                found.append(f"inputs.{name}.{key}={value}: expected a whole number. Received: {value!r}.")
            elif abs(value) >= 2**63:
                found.append(f"inputs.{name}.{key}={value}: expected a number of at most 64 bits.")
        low, high = setting.get("low", 0), setting.get("high")
        if isinstance(low, int) and isinstance(high, int) and low >= high:
            words = "expected low < high, which is not fed itself"
            found.append(f"inputs.{name}: {words}. Received: low={low} high={high}.")
    return found
