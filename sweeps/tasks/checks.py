"""What is wrong with a task's arguments and files, found before any trial starts and without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nets
from nets import NetError
from sweeps.tasks.pictures import data_checks, dataset, image_paths
from sweeps.tasks.pictures.dataset import DataError
from sweeps.typed import input_paths
from sweeps.wording import above, at_least, nearest
from tracking.record import Trial


def arguments(task: str, args: Mapping[str, Any]) -> list[str]:
    """Return sentences on arguments that are missing or out of range."""
    return _RANGES[task](args) if task in _RANGES else []


def files(trial: Trial) -> list[str]:
    """Return sentences on the files that a trial reads, and on the net that it uses them with."""
    problems: list[str] = []
    if trial.task == "classify" and trial.task_args["images"]:
        problems = _classify(trial)
    elif trial.task == "finetune" and trial.task_args["data"]:
        problems = _finetune(trial)
    return [input_paths.as_typed(trial, problem) for problem in problems]


def _classify(trial: Trial) -> list[str]:
    problems = _unfit(trial)
    try:
        image_paths.matching(trial.task_args["images"])
    except DataError as error:
        problems += error.problems
    labels = trial.task_args["labels"]
    if labels is not None:
        try:
            names = dataset.class_names(labels)
        except DataError as error:
            return [*problems, *error.problems]
        width = trial.model_args.get("num_classes")
        if trial.target is None and width is not None and len(names) != width:
            problems.append(wrong_labels(labels, len(names), width))
    return problems


def _finetune(trial: Trial) -> list[str]:
    args = trial.task_args
    return [
        *_unfit(trial),
        *data_checks.problems(args["data"], args["labels"], args["validation"], args["unreadable"] == "skip"),
    ]


def wrong_labels(labels: str, names: int, width: int) -> str:
    return f"task.labels={labels}: expected the names of the net's {width} classes, one per line. Received: {names}."


def _unfit(trial: Trial) -> list[str]:
    """Return a sentence on GPUs that would be idle, or on a net of this project without classes."""
    if trial.device.gpus > 1:
        return [f"task={trial.task}: expected one GPU. Received: device.gpus={trial.device.gpus}."]
    try:
        known = nets.arguments(trial.model)
    except NetError:
        return []
    if trial.target is not None or trial.path is not None or "num_classes" in known:
        return []
    others = [name for name in nets.names() if "num_classes" in nets.arguments(name)]
    return [f"model={trial.model} task={trial.task}: expected a net with classes.{nearest(trial.model, others)}"]


def _of_classify(args: Mapping[str, Any]) -> list[str]:
    problems = _of_pictures(args)
    if not isinstance(args["images"], str | list) or not args["images"]:
        problems.append(f"task.images={args['images']}: expected a file, a folder, a pattern, or a list of these.")
    return problems + at_least("task.", args, {"top": 1})


def _of_finetune(args: Mapping[str, Any]) -> list[str]:
    problems = _of_pictures(args)
    if not args["data"]:
        problems.append("task.data: expected a folder with one folder per class, or a list file. Received: none.")
    least = {"epochs": 1, "crop_margin": 0, "momentum": 0, "weight_decay": 0, "decay_epochs": 1, "patience": 1}
    problems += at_least("task.", args, least)
    problems += above("task.", args, {"learning_rate": 0, "decay": 0})
    if not 0 < args["validation"] < 1:
        problems.append(f"task.validation: expected a share between 0 and 1. Received: {args['validation']:g}.")
    return problems


def _of_pictures(args: Mapping[str, Any]) -> list[str]:
    problems = []
    mean: Sequence[float] | None = args["mean"]
    if mean is not None and len(mean) != 3:
        problems.append(
            f"task.mean={list(mean)}: expected three values, one per channel, in the order of task.channels."
        )
    return problems + above("task.", args, {"scale": 0})


_RANGES = {"classify": _of_classify, "finetune": _of_finetune}
