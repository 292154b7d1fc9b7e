"""What names may say of the axes whose values are more than one word, in parts that are shown where they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tracking.schema.flat import flatten, pairs, text_of


def device_words(trial: Any) -> dict[str, str]:
    device = trial.device
    return {
        "device": device.label,
        "resources": pairs(device.resources),
        "accelerator": device.accelerator or "",
        "node_labels": pairs(device.node_labels),
    }


def layout_words(trial: Any) -> dict[str, str]:
    return {"layout": "" if trial.layout == "channels_last" else trial.layout}


def protocol_words(trial: Any) -> dict[str, str]:
    protocol = trial.protocol
    settings = {field.name: getattr(protocol, field.name) for field in fields(protocol) if field.name != "name"}
    return {
        "protocol": protocol.name,
        **{f"protocol.{key}": f"{key}={text_of(value)}" for key, value in settings.items()},
    }


def weights_words(trial: Any) -> dict[str, str]:
    return {"weights": text_of(trial.as_typed.get("model.weights", trial.weights or ""))}


def path_words(trial: Any) -> dict[str, str]:
    return {"path": text_of(trial.as_typed.get("model.path", trial.path or ""))}


def inputs_words(trial: Any) -> dict[str, str]:
    return _settings("inputs", trial.inputs)


def optimizer_label(trial: Any) -> str | None:
    """Return the optimizer's name; None where no pass has one."""
    return str(trial.optimizer.get("name", "default")) if "train_step" in trial.passes else None


def optimizer_words(trial: Any) -> dict[str, str]:
    arguments = {key: value for key, value in trial.optimizer.items() if key != "name"}
    label = optimizer_label(trial)
    return {"optimizer": label or "", **(_settings("optimizer", arguments) if label else {})}


def _settings(axis: str, values: Mapping[str, Any]) -> dict[str, str]:
    """A part for each setting, nested ones by dotted keys; of a target, its name alone."""
    return {
        f"{axis}.{key}": text if key == "_target_" else f"{key}={_shape(text)}"
        for key, text in sorted(flatten(values).items())
    }


def _shape(text: str) -> str:
    """The text of a setting; that of a list of whole numbers as `224x224x3`."""
    return "x".join(re.findall(r"\d+", text)) if re.fullmatch(r"\[\d+(, \d+)*\]", text) else text


def task_args_words(trial: Any) -> dict[str, str]:
    given = {key: trial.as_typed.get(f"task.{key}", value) for key, value in trial.task_args.items()}
    return {f"task.{key}": "" if value is None else f"{key}={text_of(value)}" for key, value in given.items()}
