"""Trains and validates epoch by epoch, and keeps a checkpoint from which a killed trial continues."""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sweeps.tasks.pictures.pipeline import Pipeline
from sweeps.tasks.training.classifier import Classifier
from sweeps.tasks.training.pace import Pace

_LOG_EVERY_S = 5.0
_CURVES = {
    "val/accuracy": "val_accuracy",
    "val/loss": "val_loss",
    "train/accuracy": "train_accuracy",
    "train/loss": "train_loss",
    "train/learning_rate": "learning_rate",
    "train/images_per_s": "images_per_s",
}


class DivergedError(ArithmeticError):
    """The loss has become infinite or NaN."""


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch."""

    number: int
    """From 1."""
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    images_per_s: float
    """Training pictures per second of their steps, including input. Like the two below, it leaves out the steps that
    compiled the net, the first of each batch size in a process, unless there were no others."""
    waited_s: float
    """Seconds for which the net waited for pictures."""
    stepped_s: float
    """Seconds in the net."""
    warm: bool = True
    """Whether there were others, so that these times contain no compilation."""

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: by validation accuracy, then loss."""
        return self.val_accuracy, -self.val_loss


@dataclass
class State:
    """The progress of training: everything in a checkpoint besides variables."""

    data: str
    history: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        """The first of the best epochs."""
        return max(self.history, key=lambda epoch: epoch.rank)

    def curves(self) -> dict[str, tuple[tuple[int, float], ...]]:
        """Return the histories by MLflow key; the step is the epoch."""
        return {
            key: tuple((epoch.number, getattr(epoch, name)) for epoch in self.history) for key, name in _CURVES.items()
        }


def learning_rate(args: Mapping[str, Any], epoch: int) -> float:
    """Return the learning rate of an epoch (from 1), by `task.schedule`."""
    base: float = args["learning_rate"]
    if args["schedule"] == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / args["epochs"]))
    if args["schedule"] == "step":
        return float(base * args["decay"] ** ((epoch - 1) // args["decay_epochs"]))
    return base


def optimizer(args: Mapping[str, Any]) -> keras.optimizers.Optimizer:
    """Return the optimizer that `task.optimizer` and related keys describe."""
    common = {"learning_rate": args["learning_rate"], "weight_decay": args["weight_decay"] or None}
    kind = args["optimizer"]
    if kind == "sgd":
        return keras.optimizers.SGD(momentum=args["momentum"], **common)
    if kind == "rmsprop":
        return keras.optimizers.RMSprop(momentum=args["momentum"], **common)
    return keras.optimizers.Adam(**common) if kind == "adam" else keras.optimizers.AdamW(**common)


class Checkpoint:
    """A folder with the state after the last whole epoch and the variables of the best one.

    The variables of layers that are not trained, which cannot change, are left out.
    """

    def __init__(self, folder: Path, model: Classifier) -> None:
        self._folder, self._model = folder, model
        frozen = {
            id(weight) for layer in model.net._flatten_layers() if not layer.trainable for weight in layer.weights
        }
        self._variables = [v for v in [*model.variables, *model.optimizer.variables] if id(v) not in frozen]

    def save(self, state: State) -> None:
        """Save the state and, where the last epoch is the best, its variables as the best ones."""
        if state.best is state.history[-1]:
            self._write(_best(state))
        name = f"epoch-{len(state.history)}.npz"
        self._write(name)
        # The state names its file of variables; replacing it completes the epoch.
        content = {"data": state.data, "variables": name, "history": [asdict(epoch) for epoch in state.history]}
        partial = self._folder / "state.json.part"
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(self._folder / "state.json")
        for old in [*self._folder.glob("epoch-*.npz"), *self._folder.glob("best-*.npz")]:
            if old.name not in (name, _best(state)):
                old.unlink()

    def restore(self, data: str) -> State:
        """Return the saved state and assign its variables; return a new state where there is none for this data."""
        try:
            content = json.loads((self._folder / "state.json").read_text(encoding="utf-8"))
        except OSError:
            return State(data)
        if content["data"] != data:
            print("the pictures differ from those of the checkpoint: training starts again")
            return State(data)
        self._read(content["variables"])
        return State(data, [Epoch(**row) for row in content["history"]])

    def restore_best(self, state: State) -> None:
        """Assign the variables of the state's best epoch."""
        self._read(_best(state))

    def _write(self, name: str) -> None:
        partial = self._folder / f"{name}.part"
        with partial.open("wb") as file:
            np.savez(file, *[np.asarray(variable) for variable in self._variables])
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._folder / name)

    def _read(self, name: str) -> None:
        with np.load(self._folder / name) as saved:
            for i, variable in enumerate(self._variables):
                variable.assign(saved[f"arr_{i}"])


def _best(state: State) -> str:
    """Name the best epoch's file, one per epoch: a process killed before it replaces the state does no harm."""
    return f"best-{state.best.number}.npz"


def train(
    model: Classifier,
    training: Pipeline,
    validation: Pipeline,
    args: Mapping[str, Any],
    checkpoint: Checkpoint,
    state: State,
    report: Callable[[State], None],
) -> None:
    """Train from where `state` stands to the last epoch, updating it; call `report` after each epoch.

    Raises DivergedError.
    """
    seen: set[int] = set()
    while len(state.history) < args["epochs"] and not _patience_over(state, args["patience"]):
        number = len(state.history) + 1
        rate = learning_rate(args, number)
        # The loss-scaling optimizer for float16 passes this on.
        model.optimizer.learning_rate = rate
        figures, pace = _epoch(model, training, number, rate, seen)
        validated = evaluate(model, validation)
        if not math.isfinite(validated["loss"]):
            raise DivergedError(f"the validation loss became {validated['loss']} after epoch {number}, {_at(rate)}")
        epoch = Epoch(
            number=number,
            train_loss=figures["loss"],
            train_accuracy=figures["accuracy"],
            val_loss=validated["loss"],
            val_accuracy=validated["accuracy"],
            learning_rate=rate,
            images_per_s=pace.spent.images_per_s,
            waited_s=pace.spent.waited_s,
            stepped_s=pace.spent.stepped_s,
            warm=pace.warm,
        )
        state.history.append(epoch)
        checkpoint.save(state)
        _log(
            f"epoch {number}/{args['epochs']}, train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:.3f}, "
            f"val loss {epoch.val_loss:.4f} accuracy {epoch.val_accuracy:.3f}, {epoch.images_per_s:.4g} images/s"
        )
        report(state)


def evaluate(model: Classifier, pipeline: Pipeline) -> dict[str, float]:
    """Return loss and accuracy over all of the pipeline's pictures, in inference mode."""
    mean = _Mean()
    for images, labels in pipeline.in_order():
        model.reset_metrics()
        mean.add(model.test_on_batch(images, labels, return_dict=True), len(labels))
    return mean.figures()


def _epoch(
    model: Classifier, training: Pipeline, number: int, rate: float, seen: set[int]
) -> tuple[dict[str, float], Pace]:
    """Train one epoch; return its mean figures and its pace. `seen` are the batch sizes of earlier steps."""
    mean, pace = _Mean(), Pace(seen)
    logged_at = time.perf_counter()
    steps = math.ceil(len(training) / training.batch)
    loss = math.nan
    for step, (images, labels, seconds) in enumerate(_timed(training.epoch(number)), start=1):
        start = time.perf_counter()
        model.reset_metrics()
        figures = model.train_on_batch(images, labels, return_dict=True)
        end = time.perf_counter()
        pace.add(len(labels), seconds, end - start)
        before, loss = loss, float(figures["loss"])
        if not math.isfinite(loss):
            known = "" if math.isnan(before) else f"; a step before it was {before:.4g}"
            raise DivergedError(f"the training loss became {loss} in epoch {number}, step {step}, {_at(rate)}{known}")
        mean.add(figures, len(labels))
        if end - logged_at > _LOG_EVERY_S:
            logged_at = end
            _log(f"epoch {number}, step {step}/{steps}, loss {loss:.4f}")
    return mean.figures(), pace


class _Mean:
    """The mean of figures over batches, weighted by their numbers of pictures."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0

    def add(self, figures: Mapping[str, Any], count: int) -> None:
        for key, value in figures.items():
            self._sums[key] += float(value) * count
        self._count += count

    def figures(self) -> dict[str, float]:
        return {key: total / self._count for key, total in self._sums.items()}


def _timed(batches: Any) -> Iterator[tuple[Any, Any, float]]:
    """Yield each batch and the seconds spent waiting for it."""
    start = time.perf_counter()
    for images, labels in batches:
        yield images, labels, time.perf_counter() - start
        start = time.perf_counter()


def _patience_over(state: State, patience: int | None) -> bool:
    return bool(patience and state.history and state.history[-1].number - state.best.number >= patience)


def _at(rate: float) -> str:
    return f"at learning rate {rate:g}"


def _log(text: str) -> None:
    print(f"{datetime.now()}: {text}", flush=True)  # noqa: DTZ005
