"""Reads a composed config: the `Trial` that it describes, and every problem with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf

import nets
from nets.saved import kinds as saved_kinds
from sweeps.clusters import kinds
from sweeps.errors import UsageError
from sweeps.request import input_settings, objective, saved_models, training
from sweeps.request.options import Config
from sweeps.tasks import TASKS, checks
from sweeps.typed import input_paths
from sweeps.typed.keys import SETTINGS
from sweeps.wording import above, at_least, at_most, nearest, needs
from tracking.record import PASSES, Trial
from tracking.schema.device import Device
from tracking.schema.protocols import PROTOCOLS, Adaptive
from tracking.schema.reading import Within

_LARGEST = {"batch": 2**31 - 1, "seed": 2**32 - 1}
"""The largest values that TensorFlow's shapes and NumPy's random numbers take."""
_SETTINGS_AT_LEAST = {key: each.at_least for key, each in SETTINGS.items() if each.at_least is not None}
_CHOSEN = ("protocol", "task", "cluster")
"""Groups whose choices have different keys, each choice known by its `name`."""
_OF_EVERY_MODEL = ("name", "_target_", "weights")
NOT_ARGUMENTS = (*_OF_EVERY_MODEL, "path")
"""Keys of `model` that are no arguments of the net."""


def read(cfg: DictConfig) -> tuple[Trial, list[str]]:
    """Return the trial that a config asks for, with `repeat` 0, and every problem of the config as a sentence.

    Raises UsageError where keys are missing that every config has, or where there are others.
    """
    if problems := _misshapen(cfg):
        raise UsageError(problems)
    values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True, throw_on_missing=True)
    trial = _trial(values)
    if kinds.of_values(values["cluster"]).shares_files:
        trial = input_paths.absolute(trial, Path.cwd())
    return trial, _problems(values)


def _misshapen(cfg: DictConfig) -> list[str]:
    """Return a sentence for each key that `~KEY` has removed, and each that `+KEY=VALUE` has added in vain."""
    groups = {str(key): node for key, node in cfg.items()}
    problems = [f"{key}: expected a value. Received: none." for key in _names(Config) if key not in groups]
    for group, node in groups.items():
        kind: Any = OmegaConf.get_type(node)
        closed = is_dataclass(kind)
        wanted = _names(kind) if closed else _OF_EVERY_MODEL if group == "model" else ()
        keys = [str(key) for key in node] if wanted else []
        problems += [f"{group}.{key}: expected a value. Received: none." for key in wanted if key not in keys]
        if closed:
            added = [key for key in keys if key not in wanted]
            problems += [f"+{group}.{key}: {group} has no key {key!r}.{nearest(key, wanted)}" for key in added]
        if group in _CHOSEN and closed and (name := node.get("name")) not in (None, kind.name):
            problems.append(
                f"{group}.name={name}: expected {kind.name}, as {group}={kind.name} was chosen; "
                f"set {group}={name} instead."
            )
    return problems


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _limits(record: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Return the lowest and the highest value of each field of a record that states them, as `Within`."""
    bounds = {
        name: bound
        for name, kind in get_type_hints(record, include_extras=True).items()
        for part in (kind, *get_args(kind))  # of `Seconds | None`, the first part
        for bound in getattr(part, "__metadata__", ())
        if isinstance(bound, Within)
    }
    return {name: bound.low for name, bound in bounds.items()}, {name: bound.high for name, bound in bounds.items()}


def _of_keys(bounds: Mapping[str, float], values: Mapping[str, Any]) -> dict[str, float]:
    return {key: bound for key, bound in bounds.items() if key in values}


def _trial(values: dict[str, Any]) -> Trial:
    model, protocol, task = values["model"], dict(values["protocol"]), values["task"]
    timed = task["name"] == "benchmark"
    unchanged = {name: values[name] for name in _names(Trial) if name in values}
    converted = {
        "model": _label(model),
        "target": model["_target_"],
        "weights": model["weights"],
        "path": model.get("path") if model["_target_"] is None else None,
        "model_args": _arguments(model, task["name"]),
        "device": Device(**values["device"]),
        "inputs": _set(values["inputs"]),
        "passes": tuple(values["passes"]) if timed else (),
        "protocol": PROTOCOLS[protocol["name"]](**protocol) if timed else Adaptive(),
        "task": task["name"],
        "task_args": {key: value for key, value in task.items() if key != "name"},
    }
    return Trial(**{**unchanged, **converted})


def _problems(values: dict[str, Any]) -> list[str]:
    """Return what no type can check: ranges, combinations, and names that only code knows."""
    problems: list[str] = []
    model, device, protocol = values["model"], values["device"], values["protocol"]
    cluster = kinds.of_values(values["cluster"])
    lows, highs = (_of_keys(bounds, values) for bounds in _limits(Trial))
    del lows["timeout_s"]  # a time limit must be above 0, which a record cannot express
    problems += at_least("", values, {"repeats": 1, "seed": 0, **lows, **_SETTINGS_AT_LEAST})
    problems += at_most("", values, {**highs, **_LARGEST})
    problems += above("", values, {"timeout_s": 0})
    least = {"cpus": 1, "threads": 1, "gpus": int(device["kind"] == "gpu"), "memory_mb": 1, "gpu_memory_mb": 1}
    problems += at_least("device.", device, least) + at_most("device.", device, _limits(Device)[1])
    if values["rerun"] is not None and values["resume"] is None:
        problems.append(f"rerun={values['rerun']}: expected resume= with it: latest, a folder or a sweep id.")
    if values["trust"] and values["resume"] is None:
        problems.append("trust=true: expected resume= with it: latest, a folder or a sweep id.")
    rule: Any = PROTOCOLS[protocol["name"]]
    least_of = {key: protocol[low] if isinstance(low, str) else low for key, low in rule.AT_LEAST.items()}
    problems += at_least("protocol.", protocol, least_of) + above("protocol.", protocol, rule.ABOVE)
    problems += at_most("protocol.", protocol, _limits(rule)[1])
    if not values["passes"] or len(set(values["passes"])) < len(values["passes"]):
        problems.append(
            f"passes: expected one or more of {', '.join(PASSES)}, each once. Received: {values['passes']}."
        )
    if device["kind"] == "cpu" and values["precision"] == "tf32":
        problems.append("precision=tf32: expected an NVIDIA GPU for TF32. Received: device.kind=cpu.")
    task = values["task"]["name"]
    problems += _impossible(values, task)
    if task not in TASKS:
        problems.append(f"task={task}: expected one of {', '.join(TASKS)}.")
    problems += checks.arguments(task, values["task"])
    problems += training.problems(values["optimizer"], values["loss"], values["passes"], task)
    problems += objective.problems(values["objective"], values["passes"], task)
    problems += input_settings.problems(_set(values["inputs"]), task, model, cluster.target_problems)
    problems += cluster.config_problems(values)
    if training.is_dotted(values["loss"]):
        problems += [f"loss={values['loss']}: {each}" for each in cluster.target_problems(values["loss"], {})]
    if saved_models.is_one(model):
        problems += saved_models.problems(values, _arguments(model))
    elif model["_target_"] is None:
        problems += nets.check(model["name"], _arguments(model))
    else:
        problems += cluster.target_problems(model["_target_"], _arguments(model))
    return problems


def _impossible(values: dict[str, Any], task: str) -> list[str]:
    """Return combinations that TensorFlow or the task does not support, as sentences."""
    device, problems = values["device"], []
    if values["profile"] and task != "benchmark":
        problems.append(needs("profile=true", "task=benchmark", f"task={task}"))
    if values["layout"] == "channels_first":
        if task != "benchmark":
            problems.append(needs("layout=channels_first", "task=benchmark", f"task={task}"))
        if device["kind"] == "cpu" and values["precision"] == "float16" and values["compile"] != "xla":
            expected = "compile=xla for float16 convolutions with channels first on the CPU"
            problems.append(f"layout=channels_first: expected {expected}. Received: compile={values['compile']}.")
    if device["kind"] == "cpu":
        problems += [
            needs(f"device.{key}={device[key]}", "device.kind=gpu", "device.kind=cpu")
            for key in ("gpus", "gpu_memory_mb")
            if device[key]
        ]
    elif (gpus := device["gpus"]) > 1:
        if task != "benchmark":
            problems.append(f"device.gpus={gpus}: expected task=benchmark with several GPUs. Received: task={task}.")
        if values["compile"] == "eager":
            problems.append(f"device.gpus={gpus}: expected compile=graph or xla with several GPUs. Received: eager.")
        if values["batch"] % gpus:
            expected = f"a batch size divisible by {gpus}, as it is shared by all GPUs"
            problems.append(f"device.gpus={gpus}: expected {expected}. Received: batch={values['batch']}.")
    return problems


def _set(group: Any) -> Any:
    """Return a group of keys without those that are null, at any depth."""
    if not isinstance(group, Mapping):
        return group
    return {key: _set(value) for key, value in group.items() if value is not None}


def _label(model: dict[str, Any]) -> str:
    """Return the name of the trial's model; a callable of the user's goes by its own unless it was given one."""
    name, target = model["name"], model["_target_"]
    if saved_models.is_one(model) and name == saved_models.NAME and model.get("path"):
        return saved_kinds.label(str(model["path"]))
    was_given = target is None or (name != saved_models.NAME and nets.check(name, {}))
    return str(name if was_given else target.rpartition(".")[2])


def _arguments(model: dict[str, Any], task: str = "") -> dict[str, Any]:
    """Return the arguments that the net is built with."""
    left_out = NOT_ARGUMENTS if model["_target_"] is None else _OF_EVERY_MODEL
    arguments = {key: value for key, value in model.items() if key not in left_out and value is not None}
    if saved_models.is_one(model) and arguments.get("trust") is False:
        del arguments["trust"]
    if task == "finetune" and model["_target_"] is None:
        arguments.pop("num_classes", None)  # the data says how many
    return arguments
