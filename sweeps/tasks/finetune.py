"""Trains a net on the user's own pictures, from pretrained weights or from scratch.

On the CPU, the seed determines the result. On a GPU it determines the order of the data and every random choice, but
the order of cuDNN's sums varies, so that figures differ in their last digits from run to run.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nets.counting import layers
from nets.weights import loading
from sweeps.machine import host
from sweeps.tasks import setup
from sweeps.tasks.pictures import copies, data_checks, dataset, folders
from sweeps.tasks.pictures.dataset import DataError, Dataset
from sweeps.tasks.pictures.pipeline import Pipeline
from sweeps.tasks.training import classifier, epochs, outcome_files, recall
from sweeps.tasks.training.classifier import Classifier, NotAClassifierError
from sweeps.wording import nearest
from sweeps.worker import this_trial
from sweeps.worker.messages import Curves, Host, Layers, Metrics, Phase, Send
from tracking.record import Trial

_CACHE_SHARE = 0.5
"""Share of the free memory that decoded pictures may use."""


def run(trial: Trial, send: Send) -> None:
    """Train; send layers, growing curves and the best epoch's figures; write the trial's files."""
    start = time.perf_counter()
    this_trial.clear_files()
    args = trial.task_args
    setup.configure(trial)
    if trial.device.kind == "cpu":
        tf.config.experimental.enable_op_determinism()
    facts = host.facts() | setup.device_facts(trial)
    send(Host(facts))
    keras.utils.set_random_seed(trial.seed)
    data = dataset.read(args["data"], args["labels"])
    if problems := data_checks.split_problems(args["data"], data, args["validation"]):
        raise DataError(problems)
    for remark in data.remarks:
        print(remark)
    built_from = time.perf_counter()
    send(Phase("setup", built_from - start))
    model = _build(trial, len(data.classes))
    send(Host(facts | {"in_force": model.facts()}))
    send(Layers(layers.rows(model.net, trial.batch)))
    send(Phase("build", time.perf_counter() - built_from))

    place = this_trial.checkpoints()
    learning, held_out, decoded_per_s = _pipelines(trial, data, model.size, place)
    labels_of = {example.path: example.label for pipeline in (learning, held_out) for example in pipeline.examples}
    alike = (
        copies.lookalikes(learning.looks, held_out.looks),
        copies.contradictions(learning.looks | held_out.looks, labels_of),
    )
    same_looks = [sentence for sentence in alike if sentence is not None]
    for sentence in same_looks:
        print(sentence)
    checkpoint = epochs.Checkpoint(place, model)
    state = checkpoint.restore(data.fingerprint)
    if state.history:
        print(f"resumed after epoch {len(state.history)}")
    epochs.train(model, learning, held_out, args, checkpoint, state, lambda state: send(Curves(state.curves())))
    send(Curves(state.curves()))
    checkpoint.restore_best(state)
    labels, probabilities = _predictions(model, held_out)
    by_class = recall.by_class(labels, probabilities.argmax(axis=1), data.classes)
    metrics = _metrics(state, by_class, decoded_per_s)
    send(Metrics(metrics))

    files = this_trial.files()
    outcome_files.write(files, by_class, held_out, labels, probabilities)
    if args["save_model"]:
        from sweeps.tasks.training import model_file  # MLflow takes seconds to import

        model_file.save(model, data.classes, args["fit"], args["crop_margin"], files / "model")
    unreadable = learning.left_out | held_out.left_out
    remarks = [f"left out: {folders.by_suffix(unreadable)} that cannot be read"] if unreadable else []
    remarks += [*data.remarks, *model.remarks(), *same_looks, *by_class.remarks()]
    for line in by_class.remarks():
        print(line)
    summary = outcome_files.summary(state, metrics, len(learning), len(held_out), len(data.classes))
    this_trial.folder().summary.write_text(summary + "".join(f"{line}\n" for line in remarks), encoding="utf-8")
    for pipeline in (learning, held_out):
        pipeline.close()  # NFS keeps an open file, and with it the folder
    shutil.rmtree(place)


def _build(trial: Trial, classes: int) -> Classifier:
    """Build the trial's net with as many classes as the data, compiled for training. Raises ValueError."""
    args = trial.task_args
    trial = classifier.with_classes(trial, classes)
    net = setup.unloaded(trial)
    if trial.weights is not None:
        print(loading.load(net, trial.weights, skip=args["skip_layers"]))
    model = classifier.of_trial(net, trial)
    if model.classes != classes:
        remedy = f"an argument that is named num_classes gets their number; any other needs +model.NAME={classes}"
        if trial.path is not None:
            remedy = "a saved model keeps the classes that it was saved with"
        raise NotAClassifierError(
            f"expected {trial.model} to have the data's {classes} classes. Received: {model.classes}; {remedy}"
        )
    if args["train_layers"] is not None:
        _freeze_others(net, args["train_layers"])
    if not model.trainable_variables:
        raise ValueError(
            f"expected layers of {net.name} to train. Received: {len(net.weights)} weights, none of them trainable"
        )
    model.compile(
        optimizer=epochs.optimizer(args),
        loss=model.cross_entropy(),
        metrics=["accuracy"],
        run_eagerly=trial.compile == "eager",
        jit_compile=trial.compile == "xla",
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _freeze_others(net: keras.Model, names: Sequence[str]) -> None:
    known = layers.weighted(net)
    for name in names:
        if name not in known:
            raise ValueError(
                f"expected task.train_layers to name layers of {net.name} with weights. Received: '{name}'."
                f"{nearest(name, known)}"
            )
    for name, layer in known.items():
        layer.trainable = name in names


def _pipelines(trial: Trial, data: Dataset, size: tuple[int, int], place: Path) -> tuple[Pipeline, Pipeline, float]:
    """Return the pipelines for training and validation, filled, and how many pictures per second that decoded."""
    args = trial.task_args
    margin = args["crop_margin"]
    _expect_room(args, len(data.examples) * 3 * (size[0] + margin) * (size[1] + margin))
    parts = dataset.split(data, args["validation"], trial.seed)
    pipelines = []
    caches: dict[str, Callable[[str], Path | bool]] = {
        "memory": lambda _: True,
        "disk": lambda name: place / f"{name}.cache",
        "off": lambda _: False,
    }
    for name, examples, flip in (("training", parts[0], args["flip"]), ("validation", parts[1], False)):
        for old in place.glob(f"{name}.cache*"):
            old.unlink()
        pipelines.append(
            Pipeline(
                examples,
                size,
                fit=args["fit"],
                batch=trial.batch,
                parallel=len(os.sched_getaffinity(0)),
                seed=trial.seed,
                margin=margin,
                flip=flip,
                cache=caches[args["cache"]](name),
            )
        )
    seconds = sum(pipeline.fill() for pipeline in pipelines)
    unreadable = {path: reason for pipeline in pipelines for path, reason in pipeline.left_out.items()}
    for reason in unreadable.values():
        print(f"left out: {reason}")
    if unreadable and args["unreadable"] == "refuse":
        raise DataError([data_checks.unreadable_sentence(args["data"], unreadable)])
    if problems := data_checks.copy_problems(args["data"], [e for pipeline in pipelines for e in pipeline.examples]):
        raise DataError(problems)
    purposes = zip(("train on", "validate with"), pipelines, strict=True)
    if problems := [
        problem
        for purpose, pipeline in purposes
        for problem in data_checks.part_problems(args["data"], purpose, pipeline.examples, data.classes)
    ]:
        raise DataError(problems)
    return pipelines[0], pipelines[1], len(data.examples) / seconds


def _expect_room(args: Mapping[str, Any], size: int) -> None:
    free = host.free_memory()
    if args["cache"] == "memory" and size > _CACHE_SHARE * free:
        raise DataError(
            [
                f"task.cache=memory: expected decoded pictures to fit in {_CACHE_SHARE:.0%} of the free memory. "
                f"Received: {size / 2**20:,.0f} MB, and {free / 2**20:,.0f} MB are free; use task.cache=disk or off."
            ]
        )


def _metrics(state: epochs.State, by_class: recall.ByClass, decoded_per_s: float) -> dict[str, float]:
    best = state.best
    timed = [epoch for epoch in state.history if epoch.warm] or state.history
    waited, stepped = (sum(getattr(epoch, name) for epoch in timed) for name in ("waited_s", "stepped_s"))
    trained = sum(epoch.images_per_s * (epoch.waited_s + epoch.stepped_s) for epoch in timed)
    return {
        "val/accuracy": best.val_accuracy,
        "val/balanced_accuracy": by_class.balanced_accuracy,
        "val/loss": best.val_loss,
        "train/accuracy": best.train_accuracy,
        "best/epoch": best.number,
        "images_per_s": trained / (waited + stepped),
        "train/loss": best.train_loss,
        "epochs": len(state.history),
        "net/images_per_s": trained / stepped,
        "input/images_per_s": decoded_per_s,
        "input/wait_share": waited / (waited + stepped),
        "memory/peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _predictions(model: Classifier, held_out: Pipeline) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return true labels `[n]` and probabilities `[n, classes]` of the validation pictures."""
    predict = tf.function(model.probabilities, reduce_retracing=True, autograph=False)
    batches = [(labels.numpy(), predict(images).numpy()) for images, labels in held_out.in_order()]
    return np.concatenate([labels for labels, _ in batches]), np.concatenate([rows for _, rows in batches])
