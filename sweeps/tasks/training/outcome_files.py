"""What a training leaves for its user to look at: tables, plots and a summary."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.tasks.pictures.pipeline import Pipeline
from sweeps.tasks.training import epochs, recall
from tracking.plots import sample_plots

_MOST_SAMPLES = 24


def write(
    files: Path,
    by_class: recall.ByClass,
    held_out: Pipeline,
    labels: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any],
) -> None:
    """Write the classes, the prediction for each validation picture, the confusion matrix and some samples."""
    classes, matrix = by_class.classes, by_class.matrix
    (files / "labels.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    predicted = probabilities.argmax(axis=1)
    with (files / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true class", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
    with (files / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class", "pictures", "right", "recall"])
        writer.writerows(by_class.rows())
    with (files / "validation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "true class", "predicted class", "probability"])
        for example, label, guess, row in zip(held_out.examples, labels, predicted, probabilities, strict=True):
            writer.writerow([example.path, classes[label], classes[guess], f"{row[guess]:.6f}"])
    plots = files / "plots"
    sample_plots.draw_confusion(matrix.tolist(), classes, plots / "confusion_matrix.png")
    sample_plots.draw_samples(_samples(held_out, labels, probabilities, classes), plots / "samples.png")


def _samples(
    held_out: Pipeline, labels: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any], classes: Sequence[str]
) -> list[sample_plots.Sample]:
    """Return validation pictures to show: the most confident mistakes, then others, spread evenly over the rest."""
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = [int(i) for i in np.argsort(-sure, kind="stable") if predicted[i] != labels[i]][: _MOST_SAMPLES // 2]
    right = [i for i in range(len(labels)) if predicted[i] == labels[i]]
    room = _MOST_SAMPLES - len(wrong)
    chosen = wrong + [right[k * len(right) // room] for k in range(room)] if len(right) > room else wrong + right
    images: dict[int, Any] = {}
    place = 0
    for batch, _ in held_out.in_order():
        images |= {place + k: batch[k].numpy() for k in range(len(batch)) if place + k in chosen}
        place += len(batch)
    return [
        sample_plots.Sample(
            image=images[i],
            title=f"{classes[predicted[i]]} {sure[i]:.0%}",
            lines=() if predicted[i] == labels[i] else (f"is {classes[labels[i]]}",),
            good=bool(predicted[i] == labels[i]),
        )
        for i in chosen
    ]


def summary(state: epochs.State, metrics: Mapping[str, float], trained: int, held_out: int, classes: int) -> str:
    """Return the text for the terminal and the report; `trained` and `held_out` are numbers of pictures."""
    best, share = state.best, metrics["input/wait_share"]
    limit = "Reading pictures is the limit" if share > 0.5 else "The net is the limit"
    return (
        f"{classes} classes, {trained} pictures to train on, {held_out} to validate with.\n"
        f"Best after epoch {best.number} of {len(state.history)}: validation accuracy {best.val_accuracy:.1%}, "
        f"balanced accuracy {metrics['val/balanced_accuracy']:.1%}, loss {best.val_loss:.4f}.\n"
        f"{limit}: the net waited for input {share:.0%} of the time; alone it processes "
        f"{metrics['net/images_per_s']:.4g} images/s, pictures were first decoded at "
        f"{metrics['input/images_per_s']:.4g} images/s.\n"
    )
