from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.tasks.pictures import dataset
from sweeps.tasks.pictures.dataset import DataError, Example
from tests.support.picture_data import data_problems, make_shapes, picture


def test_a_folder_a_class(shapes: Path) -> None:
    (shapes / "disc" / "deeper").mkdir()
    picture("disc", 9).save(shapes / "disc" / "deeper" / "more.PNG")
    (shapes / "disc" / "notes.txt").write_text("no picture")
    (shapes / "disc" / ".hidden.jpg").write_text("no picture")
    (shapes / ".git").mkdir()
    data = dataset.read(str(shapes))
    assert data.classes == ("disc", "ring")
    assert [example.label for example in data.examples] == [0] * 6 + [1] * 5
    assert data.examples[0] == Example(shapes / "disc" / "000.jpg", 0)
    assert data_problems(shapes) == ()


def test_labels_order_the_folders(shapes: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("ring\ndisc\n\n")
    assert dataset.read(str(shapes), str(labels)).examples[0] == Example(shapes / "ring" / "000.jpg", 0)
    labels.write_text("ring\nsquare\n")
    assert "expected folders named in task.labels. Received: disc." in data_problems(shapes, labels)[0]
    labels.write_text("ring\n\ndisc\n")
    assert "Received: none in line 2." in data_problems(shapes, labels)[0]
    assert "Received: a path where there is none." in data_problems(shapes, tmp_path / "none.txt")[0]


def parted(shapes: Path, train: str, validate: str) -> Path:
    """The shapes in a folder to train on, and others of theirs in one to validate with."""
    (shapes / train).mkdir()
    for kind in ("disc", "ring"):
        (shapes / kind).rename(shapes / train / kind)
    for kind in ("disc", "ring"):
        (shapes / validate / kind).mkdir(parents=True)
        for i in (7, 8):
            picture(kind, i).save(shapes / validate / kind / f"{i}.png")
    return shapes


@pytest.mark.parametrize(
    ("train", "validate"),
    [
        ("train", "val"),
        ("Training", "VALIDATION"),
        ("train", "test"),
        ("training_set", "test_set"),
        ("train2017", "val2017"),
        ("TrainImages", "val"),
        ("seg_train", "seg_test"),
    ],
)
def test_a_folder_to_train_on_and_one_to_validate_with(shapes: Path, train: str, validate: str) -> None:
    data = dataset.read(str(parted(shapes, train, validate)))
    assert data.classes == ("disc", "ring")
    assert data_problems(shapes) == ()
    learning, held_out = dataset.split(data, 0.2, seed=1)
    assert {example.path.relative_to(shapes).parts[0] for example in learning} == {train}
    assert {example.path.relative_to(shapes).parts[0] for example in held_out} == {validate}
    assert [(len(learning), len(held_out)), [e.label for e in held_out]] == [(10, 4), [0, 0, 1, 1]]


def test_parts_that_do_not_go_together(shapes: Path) -> None:
    parted(shapes, "train", "val")
    (shapes / "test" / "disc").mkdir(parents=True)
    assert data_problems(shapes) == ()
    assert f"left out: {shapes}/test." in dataset.read(str(shapes)).remarks
    (shapes / "val" / "disc").rename(shapes / "val" / "disk")
    assert (
        "the same class folders in train and val. Received: disc only in train; disk only in val."
        in (data_problems(shapes)[0])
    )
    (shapes / "val" / "disk").rename(shapes / "val" / "disc")
    again = shapes / "val" / "ring" / "again.jpg"
    again.write_bytes((shapes / "train" / "ring" / "001.jpg").read_bytes())
    assert "train/ring/001.jpg and " in data_problems(shapes)[0]
    again.unlink()
    for path in (shapes / "val" / "ring").iterdir():
        path.unlink()
    assert data_problems(shapes) == (
        f"task.data={shapes}: expected pictures of every class to validate with. Received: none of ring.",
    )
    (shapes / "bus").mkdir()
    assert "no class beside them. Received: bus, test, train, val." in data_problems(shapes)[0]
    (shapes / "bus").rmdir()
    (shapes / "val").rename(shapes / "elsewhere")
    (shapes / "elsewhere").rename(shapes.parent / "elsewhere")
    (shapes / "test").rename(shapes.parent / "test")
    assert f"Received: only train; for its classes, set task.data={shapes}/train." in data_problems(shapes)[0]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "photos", 3, ("disc", "ring"))
    (data / "disc").rename(data / "train")
    (data / "ring").rename(data / "test_tube")
    assert data_problems(data) == ()
    assert dataset.read(str(data)).classes == ("test_tube", "train")


def test_classes_that_are_parted_themselves_are_refused(tmp_path: Path) -> None:
    cats = make_shapes(tmp_path / "pets" / "cats", 3, ("disc", "ring"))
    (cats / "disc").rename(cats / "train")
    (cats / "ring").rename(cats / "val")
    assert data_problems(tmp_path / "pets") == (
        f"task.data={tmp_path}/pets: expected train and val around the class folders. Received: cats/train, cats/val; "
        f"if cats is no class, set task.data={tmp_path}/pets/cats; otherwise swap the two levels or use a list of "
        "files.",
    )


def test_train_and_val_without_classes_in_them(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "photos", 3, ("disc", "ring"))
    (data / "disc").rename(data / "train")
    (data / "ring").rename(data / "val")
    with pytest.raises(DataError, match="Received: no folder in train; no folder in val"):
        dataset.read(str(data))
    (data / "val").rename(data / "bus")
    assert dataset.read(str(data)).classes == ("bus", "train")


def test_files_that_are_left_out_are_counted(shapes: Path) -> None:
    for name in ("a.txt", "b.TXT", "c"):
        (shapes / "ring" / name).touch()
    picture("disc", 9).save(shapes / "sheet.png")
    (shapes / "readme.md").touch()
    assert dataset.read(str(shapes)).remarks == (
        f"left out: 1 .png in no class's folder, e.g. {shapes}/sheet.png.",
        f"left out: 2 .txt, 1 without a suffix, 1 .md that are not pictures, e.g. {shapes}/ring/a.txt.",
    )
    assert data_problems(shapes) == ()


def test_the_split_takes_its_share_of_every_class(shapes: Path) -> None:
    (shapes / "disc" / "004.jpg").unlink()
    data = dataset.read(str(shapes))
    training, held_out = dataset.split(data, 0.4, seed=1)
    assert sorted(map(str, [*training, *held_out])) == sorted(map(str, data.examples))
    assert [example.label for example in held_out] == [0, 0, 1, 1]
    assert dataset.split(data, 0.4, seed=1) == (training, held_out)
    assert any(dataset.split(data, 0.4, seed=seed)[1] != held_out for seed in range(2, 6))
    for share in (0.01, 0.99):
        parts = dataset.split(data, share, seed=1)
        assert {example.label for example in parts[0]} == {example.label for example in parts[1]} == {0, 1}


def test_the_fingerprint_tells_other_data(shapes: Path) -> None:
    before = dataset.read(str(shapes)).fingerprint
    assert dataset.read(str(shapes)).fingerprint == before
    picture("disc", 77).resize((200, 200)).save(shapes / "disc" / "000.jpg")
    assert dataset.read(str(shapes)).fingerprint != before
