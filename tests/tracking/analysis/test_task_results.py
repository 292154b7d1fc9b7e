"""Results other than times (accuracies, for example) in tables, plots, the report and MLflow."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.support.picture_data import size_of
from tracking import names
from tracking.analysis.metrics import lower_is_better
from tracking.analysis.table import columns, csv_text, table
from tracking.plots import sweep_plots, task_plots
from tracking.plots.sample_plots import Sample, draw_confusion, draw_samples
from tracking.record import Failure, Result, Sweep, Trial
from tracking.report import html_page, tasks
from tracking.sinks.mlflow import content, notes
from tracking.tables.results_table import results_table

ACCURACY = ((1, 0.5), (2, 0.9), (3, 0.8))
LOSS = ((1, 1.5), (2, 0.5), (3, 0.7))


def found(rate: float = 0.1, model: str = "alexnet", status: Any = "ok", best: float = 0.9, **args: Any) -> Result:
    trial = Trial(
        model=model, batch=32, passes=(), task="finetune",
        task_args={"learning_rate": rate, "epochs": 3, "patience": None, "flip": True, **args},
    )  # fmt: skip
    if status != "ok":
        error = Failure(kind="DivergedError", message="the training loss became nan", detail="Traceback ...")
        return Result(trial=trial, sweep_id="s", status=status, error=error)
    return Result(
        trial=trial,
        sweep_id="s",
        status="ok",
        started_at=1000.0,
        wall_s=30.0,
        metrics={"val/accuracy": best, "val/loss": 0.5, "best/epoch": 2.0},
        curves={"val/accuracy": ACCURACY, "train/accuracy": ACCURACY, "val/loss": LOSS, "train/loss": LOSS},
    )


def swept(results: list[Result], folder: Path, **facts: str) -> Sweep:
    trials = tuple(result.trial for result in results)
    return Sweep(sweep_id="s", folder=str(folder), command="run.py", created_at=0.0, trials=trials, facts=facts)


THREE = [found(0.1), found(0.01, best=0.7), found(10.0, status="error")]


def test_a_record_of_a_task_goes_to_json_and_back() -> None:
    for result in THREE:
        assert Result.from_json(result.to_json()) == result


def test_names_hold_only_what_varies_between_trials() -> None:
    assert list(names.trial_names([result.trial for result in THREE]).values()) == [
        "alexnet b=32 learning_rate=0.1", "alexnet b=32 learning_rate=0.01", "alexnet b=32 learning_rate=10.0",
    ]  # fmt: skip
    both = [found(patience=None).trial, found(patience=3).trial]
    assert list(names.trial_names(both).values()) == ["alexnet b=32", "alexnet b=32 patience=3"]


def test_the_table_has_columns_of_its_own() -> None:
    rows = table(THREE, [])
    shown = columns(rows)
    assert "mean_s" not in shown
    assert "protocol" not in shown
    assert shown[-6:-3] == ["val/accuracy", "val/loss", "best/epoch"]
    assert "task.learning_rate" in shown
    assert csv_text(rows).splitlines()[0] == ",".join(shown)
    assert rows[0]["val/accuracy"] == 0.9
    assert rows[2]["error"] == "DivergedError: the training loss became nan"
    timed = Result(trial=Trial(model="tiny", batch=1), sweep_id="s", status="oom")
    assert "mean_s" in columns(table([timed], []))


def test_the_terminals_table() -> None:
    out = io.StringIO()
    Console(file=out, width=140).print(results_table(THREE))
    text = out.getvalue()
    assert "val/accuracy" in text
    assert "90.0%" in text
    assert "DivergedError" in text
    assert "images/s" not in text


def test_mlflow_gets_histories_and_the_best_epochs_figures() -> None:
    points = content.trial_metrics(THREE[0])
    by_key: dict[str, list[content.Point]] = {}
    for point in points:
        by_key.setdefault(point.key, []).append(point)
    assert [(point.step, point.value) for point in by_key["val/accuracy"]] == list(ACCURACY)
    assert [point.value for point in by_key["best/val/accuracy"]] == [0.9]
    assert [point.value for point in by_key["best/epoch"]] == [2.0]
    times = [point.timestamp for point in by_key["val/accuracy"]]
    assert times == sorted(times)
    assert 1_000_000 <= times[0] <= times[-1] <= 1_030_000
    params = content.trial_params(THREE[0].trial)
    assert params["task_args.learning_rate"] == "0.1"
    assert not {"passes", "protocol", "protocol.target"} & set(params)
    note = notes.sweep_note(swept(THREE, Path()), THREE)
    assert "| alexnet b=32 learning_rate=0.1 | 0.9 | 0.5 | 2 |" in note


@pytest.mark.parametrize(
    ("results", "pictures"),
    [
        (THREE, ["val_accuracy_over_learning_rate"]),
        ([found(), found(model="vgg16")], ["val_accuracy"]),
        ([found(), found(epochs=9), found(0.2)], ["val_accuracy_over_learning_rate", "val_accuracy_over_epochs"]),
        ([found(rate, best=0.5 + rate) for rate in np.linspace(0.001, 0.4, 40)], ["val_accuracy_over_learning_rate"]),
        ([found()], []),
        ([found(status="error"), found(1.0, status="error")], []),
    ],
)  # fmt: skip
def test_the_objective_over_what_was_varied(results: list[Result], pictures: list[str], tmp_path: Path) -> None:
    sweep_plots.draw(swept(results, tmp_path), results, tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("plots/*")) == sorted(pictures)


def test_the_sweeps_own_objective_is_drawn(tmp_path: Path) -> None:
    results = [found(0.1), replace(found(0.01), metrics={"val/accuracy": 0.9, "val/loss": 0.4})]
    sweep = swept(results, tmp_path, objective="val/loss")
    sweep_plots.draw(sweep, results, tmp_path)
    assert [path.stem for path in (tmp_path / "plots").iterdir()] == ["val_loss_over_learning_rate"]
    html_page.write(sweep, results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Lowest val/loss: alexnet b=32 learning_rate=0.01 with 0.4." in page
    assert page.count("data:image/png;base64,") == 1
    assert task_plots.headline(results, "forward/images_per_s") == "val/accuracy"


@pytest.mark.parametrize(
    ("key", "lower"),
    [("val/loss", True), ("input/wait_share", True), ("memory/peak_rss_mb", True), ("images_per_s", False)],
)
def test_which_figures_are_better_low(key: str, lower: bool) -> None:
    assert lower_is_better(key) == lower


def test_the_points_of_the_objective_are_where_they_belong() -> None:
    (figure,) = task_plots.draw_objective(
        [*THREE, found(0.1, "vgg16", best=0.6), found(1.0, "vgg16", best=0.4)]
    ).values()
    (axes,) = figure.axes
    lines = {str(line.get_label()): line.get_xydata().tolist() for line in axes.lines}  # type: ignore[union-attr]
    assert lines["alexnet b=32"] == [[0.01, 0.7], [0.1, 0.9]]
    assert lines["vgg16 b=32"] == [[0.1, 0.6], [1.0, 0.4]]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["diverged"]


def test_learning_curves(tmp_path: Path) -> None:
    task_plots.draw_training(THREE[0], tmp_path / "a" / "training.png")
    assert size_of(tmp_path / "a" / "training.png")[0] > 800
    task_plots.draw_training(THREE[2], tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("count", [2, 12, 40, 120])
def test_confusion_matrices_of_any_size(count: int, tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).integers(0, 5, (count, count)) + 20 * np.eye(count, dtype=int)
    draw_confusion(matrix.tolist(), [f"class $number {i}" for i in range(count)], tmp_path / "cm.png")
    assert 300 < size_of(tmp_path / "cm.png")[0] < 2000


def test_samples(tmp_path: Path) -> None:
    image = np.full((20, 20, 3), 99, np.uint8)
    samples = [
        Sample(image, "a very long name of a class indeed", ("is a ring",), "a.jpg", good) for good in (True, False)
    ]
    draw_samples([*samples, *[Sample(image, "disc")] * 6], tmp_path / "samples.png")
    assert size_of(tmp_path / "samples.png")[0] > 6 * 176
    draw_samples([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_report_has_the_figures_the_picture_and_the_words(tmp_path: Path) -> None:
    sweep = swept(THREE, tmp_path)
    files = tmp_path / "trials" / THREE[0].trial_id / "files"
    files.mkdir(parents=True)
    (files / "summary.txt").write_text("4 classes <b>")
    sweep_plots.draw(sweep, THREE, tmp_path)
    html_page.write(sweep, THREE, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Highest val/accuracy: alexnet b=32 learning_rate=0.1 with 90.0%." in page
    assert page.count("data:image/png;base64,") == 1
    assert "4 classes &lt;b&gt;" in page
    assert '<td data-v="0.9">90.0%</td>' in page
    assert "mean ± sd" not in page
    assert tasks.table([Result(trial=Trial(model="a", batch=1), sweep_id="s", status="oom")], {}) is None
