"""What is wrong with a task's arguments and files, told before any trial starts and without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nets
from nets import NetError
from sweeps.tasks.pictures import dataset
from sweeps.tasks.pictures.dataset import DataError
from sweeps.typed import input_paths
from sweeps.wording import above, at_least, nearest
from tracking.record import Trial


def arguments(task: str, args: Mapping[str, Any]) -> list[str]:
    """Values out of range, and names that are not there; a sentence each."""
    return _RANGES[task](args) if task in _RANGES else []


def files(trial: Trial) -> list[str]:
    """What is wrong with the files that a trial reads, and with the net that it gives them to."""
    found: list[str] = []
    if trial.task == "classify" and trial.task_args["images"]:
        found = _classify(trial)
    elif trial.task == "finetune" and trial.task_args["data"]:
        found = _finetune(trial)
    return [input_paths.as_typed(trial, sentence) for sentence in found]


def _classify(trial: Trial) -> list[str]:
    found = _unfit(trial)
    try:
        dataset.matching(trial.task_args["images"])
    except DataError as error:
        found += error.problems
    labels = trial.task_args["labels"]
    if labels is not None:
        try:
            names = dataset.class_names(labels)
        except DataError as error:
            return [*found, *error.problems]
        width = trial.model_args.get("num_classes")
        if trial.target is None and width is not None and len(names) != width:
            found.append(wrong_labels(labels, len(names), width))
    return found


def _finetune(trial: Trial) -> list[str]:
    args = trial.task_args
    return [
        *_unfit(trial),
        *dataset.problems(args["data"], args["labels"], args["validation"], args["unreadable"] == "skip"),
    ]


def wrong_labels(labels: str, names: int, width: int) -> str:
    return f"task.labels={labels}: expected the names of the net's {width} classes, a line each. Received: {names}."


def _unfit(trial: Trial) -> list[str]:
    """A net of ours that has no classes, and GPUs that would have nothing to do."""
    if trial.device.gpus > 1:
        return [f"task={trial.task}: expected one GPU. Received: device.gpus={trial.device.gpus}."]
    try:
        known = nets.arguments(trial.model)
    except NetError:
        return []
    if trial.target is not None or "num_classes" in known:
        return []
    others = [name for name in nets.names() if "num_classes" in nets.arguments(name)]
    return [f"model={trial.model} task={trial.task}: expected a net with classes.{nearest(trial.model, others)}"]


def _of_classify(args: Mapping[str, Any]) -> list[str]:
    found = _of_pictures(args)
    if not isinstance(args["images"], str | list) or not args["images"]:
        found.append(f"task.images={args['images']}: expected a file, a folder, a pattern, or a list of such.")
    return found + at_least("task.", args, {"top": 1})


def _of_finetune(args: Mapping[str, Any]) -> list[str]:
    found = _of_pictures(args)
    if not args["data"]:
        found.append("task.data: expected a folder with a folder a class, or a list file. Received: none.")
    least = {"epochs": 1, "crop_margin": 0, "momentum": 0, "weight_decay": 0, "decay_epochs": 1, "patience": 1}
    found += at_least("task.", args, least)
    found += above("task.", args, {"learning_rate": 0, "decay": 0})
    if not 0 < args["validation"] < 1:
        found.append(f"task.validation: expected a share between 0 and 1. Received: {args['validation']:g}.")
    return found


def _of_pictures(args: Mapping[str, Any]) -> list[str]:
    found = []
    mean: Sequence[float] | None = args["mean"]
    if mean is not None and len(mean) != 3:
        found.append(f"task.mean={list(mean)}: expected three values, one a channel in the order of task.channels.")
    return found + above("task.", args, {"scale": 0})


_RANGES = {"classify": _of_classify, "finetune": _of_finetune}
