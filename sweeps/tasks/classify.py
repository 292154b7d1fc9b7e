"""Classifies pictures with a net and its pretrained weights."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nets.counting import layers
from sweeps.machine import host
from sweeps.tasks import checks, setup
from sweeps.tasks.picture_classifier import pictures
from sweeps.tasks.pictures import dataset, folders, image_paths
from sweeps.tasks.pictures.dataset import DataError
from sweeps.tasks.training import classifier
from sweeps.tasks.training.pace import Pace
from sweeps.worker import this_trial
from sweeps.worker.messages import Host, Layers, Metrics, Phase, Send
from tracking.plots import sample_plots
from tracking.record import Trial
from tracking.text.printable import printable

_MOST_SHOWN = 24
"""Pictures in the grid and in the summary."""
_WIDTH = 110
COLUMNS = ("image", "rank", "class_id", "label", "probability")

Row = tuple[str, int, int, str, float]


def run(trial: Trial, send: Send) -> None:
    """Classify the trial's pictures and write the predictions to its files. Raises DataError if none can be read."""
    start = time.perf_counter()
    this_trial.clear_files()
    args = trial.task_args
    setup.configure(trial)
    facts = host.facts() | setup.device_facts(trial)
    send(Host(facts))
    keras.utils.set_random_seed(trial.seed)
    paths = image_paths.matching(args["images"])
    built_from = time.perf_counter()
    send(Phase("setup", built_from - start))
    labels = None if args["labels"] is None else dataset.class_names(args["labels"])
    if labels is not None:
        trial = classifier.with_classes(trial, len(labels))
    model = classifier.of_trial(setup.build(trial), trial)
    names = _names(labels, args["labels"], model.classes)
    send(Host(facts | {"in_force": model.facts()}))
    send(Layers(layers.rows(model.net, trial.batch)))
    send(Phase("build", time.perf_counter() - built_from))

    predict = tf.function(
        model.probabilities, reduce_retracing=True, autograph=False, jit_compile=trial.compile == "xla"
    )
    tf.config.run_functions_eagerly(trial.compile == "eager")
    rows: list[Row] = []
    shown: list[sample_plots.Sample] = []
    unreadable: list[str] = []
    pace = Pace(set())
    waiting_since = time.perf_counter()
    for group, images, refused in _batches(paths, model.size, args["fit"], trial.batch):
        unreadable += refused
        if not group:
            continue
        came = time.perf_counter()
        probabilities = predict(tf.constant(images)).numpy()
        pace.add(len(group), came - waiting_since, time.perf_counter() - came)
        if not np.isfinite(probabilities).all():
            raise ArithmeticError(
                "expected finite probabilities. Received: some that are not; are the weights complete?"
            )
        for path, image, row in zip(group, images, probabilities, strict=True):
            best = _top(path, row, names, args["top"])
            rows += best
            if len(shown) < _MOST_SHOWN:
                lines = tuple(f"{label} {share:.1%}" for _, _, _, label, share in best[1:])
                shown.append(
                    sample_plots.Sample(image, f"{best[0][3]} {best[0][4]:.1%}", lines, note=printable(path.name))
                )
        waiting_since = time.perf_counter()
    for reason in unreadable:
        print(f"left out: {reason}")
    if not rows:
        raise DataError([f"none of {len(paths)} pictures can be read: {unreadable[0]}"])
    metrics = {
        "probability/mean": float(np.mean([row[4] for row in rows if row[1] == 1])),
        "pictures": len(paths) - len(unreadable),
        "unreadable": len(unreadable),
        "images_per_s": pace.spent.images_per_s,
        "memory/peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    send(Metrics(metrics))
    remarks = [f"left out: {reason}" for reason in unreadable[:_MOST_SHOWN]]
    if others := image_paths.beside(args["images"]):
        remarks.append(f"left out: {folders.by_suffix(others)} that are not pictures, e.g. {others[0]}")
    text = _text(rows, [*remarks, *model.remarks()])
    print(text)
    _write_files(this_trial.files(), rows, shown)
    this_trial.folder().summary.write_text(text, encoding="utf-8")


def _names(labels: Sequence[str] | None, path: str, width: int) -> Sequence[str]:
    """Name each of the net's `width` classes by the `labels` of the file `path`, else by number. Raises DataError."""
    if labels is None:
        return [f"class {i}" for i in range(width)]
    if len(labels) != width:
        raise DataError([checks.wrong_labels(path, len(labels), width)])
    return labels


def _batches(
    paths: Sequence[Path], size: tuple[int, int], fit: pictures.Fit, batch: int
) -> Iterator[tuple[list[Path], np.ndarray[Any, Any], list[str]]]:
    """Yield batches of the pictures that can be read, and why others cannot."""

    def read(path: Path) -> np.ndarray[Any, Any] | pictures.PictureError:
        try:
            return pictures.read(path, size, fit)
        except pictures.PictureError as error:
            return error

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(paths), batch):
            group = paths[start : start + batch]
            decoded = list(zip(group, pool.map(read, group), strict=True))
            good = [(path, image) for path, image in decoded if not isinstance(image, pictures.PictureError)]
            bad = [str(error) for _, error in decoded if isinstance(error, pictures.PictureError)]
            yield [path for path, _ in good], np.array([image for _, image in good], np.uint8), bad


def _top(path: Path, probabilities: np.ndarray[Any, Any], names: Sequence[str], count: int) -> list[Row]:
    """Return the most probable classes of a picture; of equal ones, that with the lower number comes first."""
    best = np.argsort(-probabilities, kind="stable")[:count]
    return [(str(path), rank, int(i), names[i], float(probabilities[i])) for rank, i in enumerate(best, start=1)]


def _write_files(files: Path, rows: Sequence[Row], shown: Sequence[sample_plots.Sample]) -> None:
    """Write the predictions as CSV and as an MLflow table, and the grid of pictures."""
    with (files / "predictions.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    table = json.dumps({"columns": COLUMNS, "data": rows})
    (files / "predictions.json").write_text(table, encoding="utf-8")
    sample_plots.draw_samples(shown, files / "plots" / "predictions.png")


def _text(rows: Sequence[Row], remarks: Sequence[str]) -> str:
    """Return a table of the first pictures' classes, with the remarks below it."""
    table = Table(box=None, header_style="")
    for name in ("image", "class", "label", "probability"):
        table.add_column(name, justify="right" if name in ("class", "probability") else "left", overflow="fold")
    pictures_ = 0
    for image, rank, number, label, probability in rows:
        pictures_ += rank == 1
        if pictures_ > _MOST_SHOWN:
            break
        table.add_row(Text(printable(image) if rank == 1 else ""), str(number), Text(label), f"{probability:.2%}")
    out = io.StringIO()
    Console(width=_WIDTH, file=out).print(table)
    total = sum(row[1] == 1 for row in rows)
    more = f"... and {total - _MOST_SHOWN} more pictures: see predictions.csv\n" if total > _MOST_SHOWN else ""
    below = more + "".join(f"{printable(remark)}\n" for remark in remarks)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n" + below
