"""What names may say of the axes whose values are more than one word, in parts that are shown where they differ."""

from __future__ import annotations

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
    return {f"inputs.{key}": f"{key}={text}" for key, text in sorted(flatten(trial.inputs).items())}


def optimizer_label(trial: Any) -> str | None:
    """Return the optimizer's name; None where no pass has one."""
    return str(trial.optimizer.get("name", "default")) if "train_step" in trial.passes else None


def optimizer_words(trial: Any) -> dict[str, str]:
    arguments = {key: value for key, value in trial.optimizer.items() if key != "name"}
    words = {f"optimizer.{key}": f"{key}={text}" for key, text in sorted(flatten(arguments).items())}
    return {"optimizer": optimizer_label(trial) or "", **words}


def task_args_words(trial: Any) -> dict[str, str]:
    given = {key: trial.as_typed.get(f"task.{key}", value) for key, value in trial.task_args.items()}
    return {f"task.{key}": "" if value is None else f"{key}={text_of(value)}" for key, value in given.items()}
