"""A user's own nets and pictures through the command line: right figures, or a sentence that explains why not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format
from PIL import Image

from sweeps.tasks.picture_classifier import pictures
from tests.nets.weights.test_loading import KERAS_SAVES
from tests.support import logged_model
from tests.support.models.healthy import scaled_softmax
from tests.support.picture_data import picture
from tests.support.sweep_command import journal, only_sweep, run

COMMON = ["cluster=inline", "tracking=none", "calibrate=false"]


def probabilities(kernel: np.ndarray, bias: np.ndarray, path: str | Path) -> np.ndarray:
    """What `scaled_softmax` computes of a picture file, without Keras."""
    logits = pictures.read(path, (8, 8)).reshape(-1) / 255.0 @ kernel + bias
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def make_parts(folder: Path) -> None:
    for part, seeds in (("Train", range(20)), ("val", range(20, 26))):
        for kind in ("disc", "stripes"):
            (folder / part / kind).mkdir(parents=True)
            for i in seeds:
                suffix = ("tif", "gif", "jpe", "tiff", "jfif")[i % 5]
                picture(kind, i).save(folder / part / kind / f"{i}.{suffix}")


def test_a_net_that_scales_its_input_and_ends_in_a_softmax(tmp_path: Path) -> None:
    make_parts(tmp_path / "photos")
    (tmp_path / "photos" / "test").mkdir()
    picture("disc", 20).save(tmp_path / "photos" / "Train" / "disc" / "another.ppm")
    (tmp_path / "photos" / "Train" / "disc" / "notes.txt").touch()
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfstripes\r\ndisc\r\n")
    done = run(
        tmp_path, "task=finetune", "model._target_=tests.support.models.healthy.scaled_softmax", "task.data=photos",
        "task.labels=labels.txt", "task.epochs=12", "task.optimizer=adam", "batch=8", *COMMON,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep(tmp_path)
    (line,) = journal(sweep)
    assert line["metrics"]["val/accuracy"] > 0.85
    assert line["host"]["in_force"] == {
        "input": {
            "normalisation": "rgb, the plain values 0 to 255",
            "scaled_by_the_net": "0.003922 * value + 0 before head",
        },
        "output": {"in_training": "probabilities", "in_inference": "probabilities"},
    }
    for words in (
        "41 pictures to train on, 12 to validate with",
        "warning: 1 of 12 pictures to validate with look the same at the net's size as one to train on, e.g. "
        f"{tmp_path}/photos/val/disc/20.tif and {tmp_path}/photos/Train/disc/another.ppm",
        f"{tmp_path}/photos/Train is trained on and {tmp_path}/photos/val validated with; "
        "task.validation and the seed choose nothing.",
        f"left out: {tmp_path}/photos/test.",
        f"left out: 1 .txt that are not pictures, e.g. {tmp_path}/photos/Train/disc/notes.txt.",
        "the net itself scales values from 0 to 255",
        "output: probabilities, used as they are",
    ):
        assert words in done.stdout, words

    files = sweep / "trials" / line["trial_id"] / "files"
    assert (files / "labels.txt").read_text() == "stripes\ndisc\n"
    net = tf.saved_model.load(str(files / "model" / "data" / "classifier" / "net"))
    kernel, bias = (next(v.numpy() for v in net.variables if v.shape == shape) for shape in ((192, 2), (2,)))
    with (files / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = [str(tmp_path / row["image"]) for row in rows]
    expected = np.array([probabilities(kernel, bias, image) for image in images])
    served = logged_model.predictions(str(files / "model"), images, tmp_path)
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)
    true = [("stripes", "disc").index(row["true class"]) for row in rows]
    loss = -np.log(expected[np.arange(len(true)), true]).mean()
    assert line["metrics"]["val/loss"] == pytest.approx(loss, rel=1e-4)


def test_a_class_that_is_never_recognised(tmp_path: Path) -> None:
    for kind, count in (("common", 32), ("rare", 3)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(count):
            picture("disc" if kind == "common" else "ring", i).save(tmp_path / "photos" / kind / f"{i}.png")
    picture("disc", 5).save(tmp_path / "photos" / "rare" / "again.bmp")
    done = run(
        tmp_path, "task=finetune", "model._target_=tests.support.models.healthy.first_class_only", "task.data=photos",
        "task.validation=0.25", "task.epochs=1", "task.learning_rate=1e-9", "task.save_model=false", *COMMON,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = journal(only_sweep(tmp_path))
    assert line["metrics"]["val/accuracy"] == pytest.approx(8 / 9)
    assert line["metrics"]["val/balanced_accuracy"] == pytest.approx(0.5)
    assert "val/accuracy 88.9%   val/balanced_accuracy 50.0%" in done.stdout
    assert "validation accuracy 88.9%, balanced accuracy 50.0%" in done.stdout
    assert "warning: never recognised: rare (0 of 1)" in done.stdout
    again = f"one of another class, e.g. {tmp_path}/photos/common/5.png and {tmp_path}/photos/rare/again.bmp"
    assert f"warning: 1 of 36 pictures look the same at the net's size as {again}" in done.stdout
    sweep = only_sweep(tmp_path)
    table = (sweep / "trials" / line["trial_id"] / "files" / "classes.csv").read_text()
    assert table == "class,pictures,right,recall\ncommon,8,8,1.0\nrare,1,0,0.0\n"
    assert "val/<wbr>balanced_<wbr>accuracy" in (sweep / "report.html").read_text()


def test_pictures_that_would_be_lost_or_be_there_twice(tmp_path: Path) -> None:
    for kind in ("disc", "ring"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(3):
            picture(kind, i).save(tmp_path / "photos" / kind / f"{i}.png")
    (tmp_path / "photos" / "ring" / "copy.PNG").write_bytes((tmp_path / "photos" / "disc" / "1.png").read_bytes())
    for i in range(6):
        (tmp_path / "photos" / "disc" / f"{i}.{'heic' if i else 'nef'}").write_bytes(b"\0" * 40)
    arguments = ["task=finetune", "model=tiny", "task.data=photos", *COMMON]
    done = run(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "6 pictures cannot be used; task.unreadable=skip leaves such out" in done.stderr
    assert "and 1 more (5 .heic, 1 .nef)." in done.stderr
    assert f"{tmp_path}/photos/disc/1.png and {tmp_path}/photos/ring/copy.PNG have the same content" in done.stderr
    assert not list(tmp_path.glob("outputs/*/*/plan.json"))


@KERAS_SAVES
def test_predictions_of_a_net_with_old_weights_and_labels(tmp_path: Path) -> None:
    tf.random.set_seed(1)
    net = scaled_softmax(3)
    with h5py.File(tmp_path / "net_weights_tf_dim_ordering_tf_kernels.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, net)
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfone\ntwo\nthree\n")
    (tmp_path / "photos").mkdir()
    picture("disc", 1).save(tmp_path / "photos" / "a.tif")
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    Image.fromarray(deep).save(tmp_path / "photos" / "b.png")
    (tmp_path / "photos" / "notes.txt").touch()
    (tmp_path / "photos" / "c.heic").touch()
    done = run(
        tmp_path, "task=classify", "model._target_=tests.support.models.healthy.scaled_softmax", "task.images=photos",
        "task.top=3", "model.weights=net_weights_tf_dim_ordering_tf_kernels.h5", "task.labels=labels.txt", *COMMON,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep(tmp_path)
    (line,) = journal(sweep)
    table = json.loads((sweep / "trials" / line["trial_id"] / "files" / "predictions.json").read_text())
    kernel, bias = net.get_layer("head").get_weights()
    for name in ("a.tif", "b.png"):
        shares = {row[3]: row[4] for row in table["data"] if row[0].endswith(name)}
        expected = probabilities(kernel, bias, tmp_path / "photos" / name)
        assert [shares[label] for label in ("one", "two", "three")] == pytest.approx(expected, abs=1e-5)
    assert "output: probabilities, used as they are" in done.stdout
    assert f"left out: 1 .txt that are not pictures, e.g. {tmp_path}/photos/notes.txt" in done.stdout
    assert f"left out: {tmp_path}/photos/c.heic cannot be read: not JPEG, PNG, " in done.stdout
