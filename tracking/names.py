"""Readable names: what tells a trial, or a curve over batch sizes, from its neighbours and nothing more."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tracking.record import Protocol, Result, Trial
from tracking.text.printable import printable

_LONGEST_KEY = 200
_OF_THE_MODEL = ("model_args", "target", "weights")


def trial_names(trials: Iterable[Trial]) -> dict[str, str]:
    """A name for each trial id, e.g. `vgg16 b=4 cpu`: model, batch and whatever else varies among the trials.

    The names of one call differ from each other; the same trial may be called otherwise among other trials.
    """
    unique = {trial.trial_id: _axes(trial) for trial in trials}
    shown = {"model", "batch"} | _varying(unique.values())
    names = {trial_id: printable(_join(axes, shown)) for trial_id, axes in unique.items()}
    count = Counter(names.values())
    return {trial_id: name if count[name] == 1 else f"{name} {trial_id[:6]}" for trial_id, name in names.items()}


def series_names(trials: Sequence[Trial]) -> dict[str, str]:
    """The curve over batch sizes that each trial id is a point of: `<model>/<device>` and what else sets curves apart.

    Repeats of a trial are the same point. Precision, arguments and the like appear only where one model on one device
    has several of them, e.g. `vgg16/cpu bfloat16`. Every name is valid within an MLflow metric key.
    """
    groups: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
    for trial in trials:
        groups[trial.model, trial.device.label][trial.trial_id] = _axes(trial)
    names: dict[str, str] = {}
    curve_of: dict[str, tuple[str, str, str]] = {}
    for (model, device), members in groups.items():
        shown = _varying(members.values()) - {"model", "batch", "device", "repeat"}
        for trial_id, axes in members.items():
            extra = _join(axes, shown)
            first = name = f"{metric_word(model)}/{metric_word(f'{device} {extra}'.strip())}"
            # What MLflow refuses may be all that tells two curves apart.
            for count in itertools.count(2):
                if curve_of.setdefault(name, (model, device, extra)) == (model, device, extra):
                    break
                name = f"{first} {count}"
            names[trial_id] = name
    return names


def sweep_name(trials: Sequence[Trial]) -> str:
    """What a sweep went over, e.g. `vgg16, alexnet b=1,2,4 cpu`; long lists are counted instead."""
    models = list(dict.fromkeys(trial.model for trial in trials))
    batches = sorted({trial.batch for trial in trials})
    devices = list(dict.fromkeys(trial.device.label for trial in trials))
    spread = ",".join(map(str, batches)) if len(batches) <= 8 else f"{batches[0]}..{batches[-1]}"
    tasks = dict.fromkeys(trial.task for trial in trials if trial.task != "benchmark")
    words = " ".join(
        [
            *tasks,
            ", ".join(models) if len(models) <= 4 else f"{len(models)} models",
            f"b={spread}",
            ", ".join(devices) if len(devices) <= 3 else f"{len(devices)} devices",
        ]
    )
    return printable(words)


def host_name(result: Result) -> str:
    """What tells the machine of a result from others: its name, and in a cluster its address."""
    name = str(result.host.get("hostname", ""))
    address = result.host.get("node_ip")
    return printable(f"{name} ({address})" if address else name)


def metric_word(text: str) -> str:
    """The text with everything replaced that MLflow refuses within one part of a metric, parameter or tag key."""
    return re.sub(r" +", " ", re.sub(r"[^\w.\- ]", " ", text.replace("/", "-"))).strip()[:_LONGEST_KEY]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as text under dotted keys, without those that are None."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = _text(value)
    return flat


def _axes(trial: Trial) -> dict[str, str]:
    """Everything that sets trials apart, in the order in which a name says it; empty where there is nothing to say."""
    typed = trial.as_typed
    task_args = {key: typed.get(f"task.{key}", value) for key, value in trial.task_args.items()}
    return {
        "model": trial.model,
        "batch": f"b={trial.batch}",
        "device": trial.device.label,
        "resources": _pairs(trial.device.resources),
        "accelerator": trial.device.accelerator or "",
        "node_labels": _pairs(trial.device.node_labels),
        "precision": trial.precision,
        "compile": trial.compile,
        "layout": "" if trial.layout == "channels_last" else trial.layout,
        "protocol": trial.protocol.name,
        **{
            f"protocol.{key}": f"{key}={_text(value)}" for key, value in asdict(trial.protocol).items() if key != "name"
        },
        "model_args": _pairs(trial.model_args),
        "inputs": _pairs(trial.inputs),
        "target": trial.target or "",
        "weights": _text(typed.get("model.weights", trial.weights or "")),
        "task": trial.task,
        **{f"task.{key}": "" if value is None else f"{key}={_text(value)}" for key, value in task_args.items()},
        "passes": "+".join(trial.passes),
        "seed": f"seed={trial.seed}",
        "repeat": f"r={trial.repeat}",
    }


def _settings(protocol: Protocol) -> dict[str, Any]:
    return {key: value for key, value in asdict(protocol).items() if key != "name"}


def _varying(members: Iterable[Mapping[str, str]]) -> set[str]:
    """The axes that tell members apart. Two nets differ in their arguments anyway: those count within one net only."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for axes in members:
        for axis, text in axes.items():
            seen[axis, axes["model"] if axis in _OF_THE_MODEL else ""].add(text)
    return {axis for (axis, _), texts in seen.items() if len(texts) > 1}


def _join(axes: Mapping[str, str], shown: set[str]) -> str:
    return " ".join(text for axis, text in axes.items() if axis in shown and text)


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={text}" for key, text in sorted(flatten(values).items()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
