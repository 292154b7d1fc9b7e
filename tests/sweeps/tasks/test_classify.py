from __future__ import annotations

import csv
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweeps.machine.cores import available
from sweeps.worker.isolate import run_trial
from tests.nets.architectures.test_numbers import numpy_alexnet
from tests.support.picture_data import make_shapes, picture, save_bvlc, size_of, task_args
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Result, Trial

ALEXNET = Trial(model="alexnet", batch=2, passes=(), task="classify")


def run(folder: Path, server: str, base: Trial, **args: Any) -> Result:
    folder.mkdir(exist_ok=True)
    trial = replace(base, task_args=task_args("classify", **args))
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    return run_trial(trial, sweep_id="s", server=server, cores=available(), env=cpu, folder=TrialFolder(folder))


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "files" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_bvlc_weights_classify_as_an_independent_computation_does(server: str, tmp_path: Path) -> None:
    weights = {name: [a.astype("float64") for a in arrays] for name, arrays in save_bvlc(tmp_path / "w.npy").items()}
    folder = make_shapes(tmp_path / "shapes", 2, ("disc", "stripes"))
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"thing {i}\n" for i in range(1000)))
    base = Trial(model="alexnet", batch=3, passes=(), task="classify", weights=str(tmp_path / "w.npy"))
    result = run(tmp_path / "trial", server, base, images=str(folder), labels=str(labels), top=3)
    assert result.ok, result.error
    rows = predictions(tmp_path / "trial")
    assert len(rows) == 4 * 3
    for i, path in enumerate(sorted(folder.glob("*/*.jpg"))):
        with Image.open(path) as source:
            image = np.asarray(source.resize((227, 227), Image.Resampling.BILINEAR), np.float64)
        logits = numpy_alexnet(image[None, :, :, ::-1] - (104.0, 117.0, 124.0), weights, normalise=True)[0]
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        expected = np.argsort(-shares)[:3]
        found = rows[3 * i : 3 * i + 3]
        assert [row["image"] for row in found] == [str(path)] * 3
        assert [int(row["class_id"]) for row in found] == expected.tolist()
        assert [row["label"] for row in found] == [f"thing {k}" for k in expected]
        assert [float(row["probability"]) for row in found] == pytest.approx(shares[expected], rel=1e-3)
    assert result.metrics["pictures"] == 4
    table = json.loads((tmp_path / "trial" / "files" / "predictions.json").read_text())
    assert table["columns"] == ["image", "rank", "class_id", "label", "probability"]
    assert len(table["data"]) == 12
    assert size_of(tmp_path / "trial" / "files" / "plots" / "predictions.png")[0] > 600
    summary = (tmp_path / "trial" / "files" / "summary.txt").read_text()
    assert summary in (tmp_path / "trial" / "log.txt").read_text()
    assert f"thing {rows[0]['class_id']}" in summary


class Hostile:
    def __reduce__(self) -> Any:
        return (print, ("ran",))


def test_a_hostile_file_of_weights_runs_nothing(server: str, tmp_path: Path) -> None:
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    (tmp_path / "w.npy").write_bytes(header + pickle.dumps(Hostile()))
    picture("disc", 0).save(tmp_path / "a.jpg")
    base = Trial(model="alexnet", batch=3, passes=(), task="classify", weights=str(tmp_path / "w.npy"))
    result = run(tmp_path / "trial", server, base, images=str(tmp_path / "a.jpg"))
    assert result.status == "error"
    assert result.error is not None
    assert result.error.kind == "UnsafeWeights"
    assert "\nran" not in (tmp_path / "trial" / "log.txt").read_text()


TINY = Trial(model="tiny", batch=2, passes=(), task="classify")


def test_one_bad_picture_does_not_stop_the_others(server: str, tmp_path: Path) -> None:
    for i in range(4):
        picture("disc", i).save(tmp_path / f"{i}.jpg")
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:900])
    (tmp_path / "4.jpg").write_bytes(b"no picture")
    result = run(tmp_path / "trial", server, TINY, images=str(tmp_path / "*.jpg"), top=20)
    assert result.ok, result.error
    assert (result.metrics["pictures"], result.metrics["unreadable"]) == (3, 2)
    rows = predictions(tmp_path / "trial")
    assert len(rows) == 3 * 10
    assert rows[0]["label"] == f"class {rows[0]['class_id']}"
    assert sum(float(row["probability"]) for row in rows[:10]) == pytest.approx(1, abs=1e-4)
    summary = (tmp_path / "trial" / "files" / "summary.txt").read_text()
    assert "1.jpg is damaged: image file is truncated" in summary
    assert "4.jpg cannot be read: not JPEG, PNG, BMP, WebP, GIF, " in summary


def test_the_rate_is_that_of_readable_pictures_without_the_step_that_traced(server: str, tmp_path: Path) -> None:
    for i in range(7):
        picture("disc", i).save(tmp_path / f"{i}.jpg")
    for i in (2, 3):
        (tmp_path / f"{i}.jpg").write_bytes(b"no picture")
    slow = replace(
        TINY, model="slow_to_trace", target="tests.support.models.healthy.slow_to_trace", model_args={"seconds": 1.5}
    )
    result = run(tmp_path / "trial", server, slow, images=str(tmp_path / "*.jpg"))
    assert result.ok, result.error
    assert result.metrics["pictures"] == 5
    assert result.metrics["images_per_s"] > 5 / 1.5


def test_no_picture_that_can_be_read(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    result = run(tmp_path / "trial", server, TINY, images=str(tmp_path / "a.jpg"))
    assert result.error is not None
    assert result.error.message.startswith("none of 1 pictures can be read: ")


def test_labels_that_do_not_number_the_classes_of_a_net_of_ones_own(server: str, tmp_path: Path) -> None:
    picture("disc", 0).save(tmp_path / "a.jpg")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    own = Trial(model="small", target="tests.support.models.healthy.small", batch=2, passes=(), task="classify")
    images, labels = str(tmp_path / "a.jpg"), str(tmp_path / "labels.txt")
    result = run(tmp_path / "trial", server, own, images=images, labels=labels)
    assert result.error is not None
    assert "expected the names of the net's 4 classes, one per line. Received: 2." in result.error.message


def test_normalisation_can_be_turned_off_as_in_the_seed(server: str, tmp_path: Path) -> None:
    picture("disc", 0).save(tmp_path / "a.jpg")
    shares = []
    for i, form in enumerate([{}, {"mean": [0.0, 0.0, 0.0], "scale": 1.0, "channels": "bgr"}]):
        assert run(tmp_path / str(i), server, TINY, images=str(tmp_path / "a.jpg"), **form).ok
        shares.append([row["probability"] for row in predictions(tmp_path / str(i))])
    assert shares[0] != shares[1]
