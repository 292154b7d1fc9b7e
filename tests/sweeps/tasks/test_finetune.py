from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tensorflow as tf

from sweeps.machine.cores import available
from sweeps.tasks import finetune
from sweeps.tasks.picture_classifier.loader import Classifier
from sweeps.tasks.pictures import dataset
from sweeps.tasks.training import recall
from sweeps.tasks.training.epochs import Epoch, State
from sweeps.worker.isolate import run_trial
from tests.support import logged_model
from tests.support.picture_data import CLASSES, make_shapes, picture, size_of, task_args
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Result, Trial

TINY = Trial(model="tiny", model_args={"image_size": 32}, batch=16, passes=(), task="finetune")
QUICK = {"epochs": 1, "learning_rate": 0.1, "save_model": False}


def run(folder: Path, server: str, data: Path, base: Trial = TINY, **args: Any) -> Result:
    folder.mkdir(exist_ok=True)
    trial = replace(base, task_args=task_args("finetune", data=str(data), **args))
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    return run_trial(trial, sweep_id="s", server=server, cores=available(), env=cpu, folder=TrialFolder(folder))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 40)


@pytest.fixture(scope="module")
def learned(server: str, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A small net that was trained in full, and its trial's folder."""
    folder = tmp_path_factory.mktemp("learned")
    result = run(folder, server, shapes, epochs=12, learning_rate=0.03, optimizer="adam", schedule="cosine")
    assert result.ok, result.error
    return result, folder


def test_a_small_net_learns_and_leaves_what_is_needed_to_judge_it(learned: tuple[Result, Path]) -> None:
    result, folder = learned
    assert result.metrics["val/accuracy"] > 0.9
    assert [epoch for epoch, _ in result.curves["val/accuracy"]] == list(range(1, 13))
    assert result.metrics["val/accuracy"] == max(value for _, value in result.curves["val/accuracy"])
    assert dict(result.curves["val/loss"])[int(result.metrics["best/epoch"])] == result.metrics["val/loss"]
    assert [row.name for row in result.layers] == ["conv1", "pool1", "logits"]
    assert result.layers[-1].output_shape == (16, 4)
    files = folder / "files"
    assert (files / "labels.txt").read_text().split() == list(CLASSES)
    with (files / "confusion_matrix.csv").open(newline="") as file:
        matrix = np.array([[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])
    assert matrix.sum(axis=1).tolist() == [8, 8, 8, 8]
    assert matrix.trace() / 32 == pytest.approx(result.metrics["val/accuracy"])
    with (files / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["true class"] == row["predicted class"] for row in rows) == matrix.trace()
    assert all(row["true class"] == Path(row["image"]).parent.name for row in rows)
    for name in ("confusion_matrix.png", "samples.png"):
        assert size_of(files / "plots" / name)[0] > 300
    assert "4 classes, 128 pictures to train on, 32 to validate with." in (files / "summary.txt").read_text()
    assert not (folder / "checkpoints").exists()


def test_the_same_seed_gives_the_same_history(
    server: str, shapes: Path, learned: tuple[Result, Path], tmp_path: Path
) -> None:
    args = {"epochs": 12, "learning_rate": 0.03, "optimizer": "adam", "schedule": "cosine", "save_model": False}
    again = run(tmp_path / "again", server, shapes, cache="off", **args)
    expect_same_history(again, learned[0])
    other = run(tmp_path / "other", server, shapes, replace(TINY, seed=1), **args)
    assert dict(other.curves["train/loss"]) != pytest.approx(dict(again.curves["train/loss"]), rel=1e-3)


def expect_same_history(found: Result, expected: Result) -> None:
    for key in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate"):
        assert dict(found.curves[key]) == pytest.approx(dict(expected.curves[key]), rel=1e-5), key


def test_a_killed_trial_goes_on_where_it_was(
    server: str, shapes: Path, learned: tuple[Result, Path], tmp_path: Path
) -> None:
    args = {"epochs": 12, "learning_rate": 0.03, "optimizer": "adam", "schedule": "cosine", "save_model": False}
    folder = tmp_path / "trial"
    fatal = {"once": str(tmp_path / "once"), "step": 3 * 8 + 5, "num_classes": 4}  # an epoch has 8 steps
    base = replace(TINY, target="tests.support.models.failing.killed_in_training", model_args=TINY.model_args | fatal)
    killed = run(folder, server, shapes, base, **args)
    assert (killed.status, killed.error and killed.error.kind) == ("crashed", "SIGKILL")
    assert len(killed.curves["val/loss"]) == 3
    resumed = run(folder, server, shapes, base, **args)
    assert resumed.ok, resumed.error
    assert "resumed after epoch 3\n" in (folder / "log.txt").read_text()
    expect_same_history(resumed, learned[0])
    assert resumed.metrics["best/epoch"] == learned[0].metrics["best/epoch"]


def test_rates_are_those_of_all_epochs_that_compiled_nothing() -> None:
    figures = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "learning_rate": 0.1}
    history = [
        Epoch(number=1, images_per_s=1.0, waited_s=50.0, stepped_s=50.0, warm=False, **figures),
        Epoch(number=2, images_per_s=4.0, waited_s=1.0, stepped_s=4.0, **figures),
        Epoch(number=3, images_per_s=5.0, waited_s=3.0, stepped_s=2.0, **figures),
    ]
    by_class = recall.by_class(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0]), ("a", "b"))
    found = finetune._metrics(State("data", history), by_class, decoded_per_s=100.0)
    assert found["val/balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["images_per_s"] == pytest.approx(4.5)
    assert found["net/images_per_s"] == pytest.approx(7.5)
    assert found["input/wait_share"] == pytest.approx(0.4)
    assert found["input/images_per_s"] == 100


def test_divergence_is_an_error_with_its_cause(server: str, shapes: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "trial", server, shapes, **QUICK | {"learning_rate": 1e20, "epochs": 3})
    assert result.status == "error"
    assert result.error is not None
    assert result.error.kind == "DivergedError"
    assert re.search(r"loss became (nan|inf) in epoch \d, step \d+, at learning rate 1e\+20", result.error.message)


def test_a_picture_damaged_in_its_middle(server: str, shapes: Path, tmp_path: Path) -> None:
    data = tmp_path / "shapes"
    shutil.copytree(shapes, data)
    bad = data / "disc" / "003.jpg"
    bad.write_bytes(bad.read_bytes()[:900])
    refused = run(tmp_path / "a", server, data, **QUICK)
    assert refused.error is not None
    assert refused.error.kind == "DataError"
    assert "1 picture cannot be used; task.unreadable=skip leaves such out: " in refused.error.message
    assert "epoch 1" not in (tmp_path / "a" / "log.txt").read_text()
    skipped = run(tmp_path / "b", server, data, unreadable="skip", **QUICK)
    assert skipped.ok, skipped.error
    assert f"left out: {bad} is damaged" in (tmp_path / "b" / "log.txt").read_text()
    summary = (tmp_path / "b" / "files" / "summary.txt").read_text()
    assert "left out: 1 .jpg that cannot be read\n" in summary
    with (tmp_path / "b" / "files" / "validation.csv").open() as file:
        assert str(bad) not in file.read()


def test_a_class_whose_held_out_pictures_are_all_damaged(server: str, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "shapes", 5, ("disc", "ring"))
    _, held_out = dataset.split(dataset.read(str(data)), 0.2, TINY.seed)
    for example in held_out:
        example.path.write_bytes(example.path.read_bytes()[:900])
    result = run(tmp_path / "trial", server, data, unreadable="skip", **QUICK)
    assert result.error is not None
    assert result.error.kind == "DataError"
    assert "every class to validate with, without those that cannot be read. Received: none of disc, ring." in (
        result.error.message
    )
    assert "epoch 1" not in (tmp_path / "trial" / "log.txt").read_text()


def test_a_served_model_takes_the_same_middle_as_validation(server: str, shapes: Path, tmp_path: Path) -> None:
    args = QUICK | {"save_model": True, "crop_margin": 8, "learning_rate": 0.003}
    result = run(tmp_path / "trial", server, shapes, **args)
    assert result.ok, result.error
    files = tmp_path / "trial" / "files"
    model = Classifier(files / "model" / "data" / "classifier")
    with (files / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = model.predict(pandas.DataFrame({"image": [Path(row["image"]).read_bytes() for row in rows]}))
    assert found["label"].tolist() == [row["predicted class"] for row in rows]
    assert found["probability"].tolist() == pytest.approx([float(row["probability"]) for row in rows], abs=1e-5)


@pytest.mark.parametrize("change", [{"precision": "bfloat16", "compile": "xla"}, {"compile": "eager"}])
def test_sizes_colours_precisions_and_compilers(server: str, tmp_path: Path, change: dict[str, Any]) -> None:
    data = make_shapes(tmp_path / "shapes", 6, ("disc", "ring"))
    for i, (mode, suffix) in enumerate([("L", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "bmp"), ("RGB", "webp")]):
        picture("disc", i).resize((20 + 30 * i, 50)).convert(mode).save(data / "disc" / f"mixed{i}.{suffix}")
    result = run(
        tmp_path / "trial", server, data, replace(TINY, **change), crop_margin=4, fit="crop", cache="disk", **QUICK
    )
    assert result.ok, result.error
    assert np.isfinite(result.metrics["val/loss"])


@pytest.mark.parametrize(
    ("args", "kind", "words"),
    [
        ({"train_layers": ["logit"]}, "ValueError", "Received: 'logit'. Did you mean logits?"),
        ({"labels": None, "cache": "memory", "crop_margin": 400_000}, "DataError", "use task.cache=disk or off"),
    ],
)
def test_what_only_the_net_can_tell(
    server: str, shapes: Path, tmp_path: Path, args: dict[str, Any], kind: str, words: str
) -> None:
    result = run(tmp_path / "trial", server, shapes, **QUICK | args)
    assert result.error is not None
    assert (result.error.kind, words in result.error.message) == (kind, True), result.error
    assert "epoch 1" not in (tmp_path / "trial" / "log.txt").read_text()


def test_a_net_without_a_trainable_weight_is_refused(server: str, shapes: Path, tmp_path: Path) -> None:
    frozen = replace(TINY, model="frozen", target="tests.support.models.healthy.frozen", model_args={})
    result = run(tmp_path / "trial", server, shapes, frozen, **QUICK)
    assert result.error is not None
    assert "to train. Received: 2 weights, none of them trainable" in result.error.message


def test_pretrained_layers_are_loaded_and_kept(server: str, shapes: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"conv1": [rng.normal(size=(3, 3, 3, 4)), np.zeros(4)], "logits": [np.zeros((4, 1000)), np.zeros(1000)]}
    np.save(tmp_path / "w.npy", np.array(weights, dtype=object), allow_pickle=True)
    base = replace(TINY, weights=str(tmp_path / "w.npy"))
    unfit = run(tmp_path / "a", server, shapes, base, **QUICK)
    assert unfit.error is not None
    assert unfit.error.kind == "UnfitWeights"
    args = QUICK | {"skip_layers": ["logits"], "train_layers": ["logits"], "save_model": True, "scale": 0.01}
    result = run(tmp_path / "b", server, shapes, base, **args)
    assert result.ok, result.error
    net = tf.saved_model.load(str(tmp_path / "b" / "files" / "model" / "data" / "classifier" / "net"))
    (conv1,) = [variable.numpy() for variable in net.variables if variable.shape == (3, 3, 3, 4)]
    np.testing.assert_allclose(conv1, weights["conv1"][0], rtol=1e-6)


def test_the_logged_model_predicts_in_a_fresh_process_and_is_served(
    learned: tuple[Result, Path], tmp_path: Path
) -> None:
    _, folder = learned
    model = folder / "files" / "model"
    with (folder / "files" / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = logged_model.predictions(str(model), [row["image"] for row in rows], tmp_path)
    assert found["label"] == [row["predicted class"] for row in rows]
    assert found["probability"] == pytest.approx([float(row["probability"]) for row in rows], abs=1e-5)
    assert [CLASSES[i] for i in found["class_id"]] == found["label"]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "server.txt").open("w") as log:
        serving = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"),
                *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            ],
            cwd=tmp_path, env=logged_model.environment(), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        image = b64encode(Path(rows[0]["image"]).read_bytes()).decode()
        answer = _ask(port, {"dataframe_records": [{"image": image}]}, serving)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(serving.pid, signal.SIGTERM)
        serving.wait(30)
    assert answer["predictions"][0]["label"] == rows[0]["predicted class"]
    assert answer["predictions"][0]["probability"] == pytest.approx(float(rows[0]["probability"]), abs=1e-5)


def _ask(port: int, payload: dict[str, Any], serving: subprocess.Popen[bytes]) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(payload).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) or serving.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
