from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.tasks import dataset
from sweeps.tasks.dataset import DataError, Example
from tests.picture_data import make_shapes, picture


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return make_shapes(tmp_path / "shapes", 5, ("disc", "ring"))


def problems(data: Path, labels: Path | None = None, *, skip: bool = False) -> tuple[str, ...]:
    dataset.problems.cache_clear()
    return dataset.problems(str(data), None if labels is None else str(labels), 0.2, skip)


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
    assert problems(shapes) == ()


def test_labels_order_the_folders(shapes: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("ring\ndisc\n\n")
    assert dataset.read(str(shapes), str(labels)).examples[0] == Example(shapes / "ring" / "000.jpg", 0)
    labels.write_text("ring\nsquare\n")
    assert "expected folders named in task.labels. Received: disc." in problems(shapes, labels)[0]
    labels.write_text("ring\n\ndisc\n")
    assert "Received: none in line 2." in problems(shapes, labels)[0]
    assert "No such file" in problems(shapes, tmp_path / "none.txt")[0]


def write_list(shapes: Path, *lines: str) -> Path:
    path = shapes / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def listed(disc: str = "0", ring: str = "1") -> list[str]:
    return [f"{kind}/{i:03}.jpg {label}" for kind, label in (("disc", disc), ("ring", ring)) for i in range(5)]


def test_a_list_of_paths_and_numbers(shapes: Path) -> None:
    (shapes / "disc" / "000.jpg").rename(shapes / "disc" / "with space.jpg")
    path = write_list(shapes, "disc/with space.jpg 0", "", *listed()[1:])
    data = dataset.read(str(path))
    assert data.classes == ("0", "1")
    assert data.examples[0] == Example(shapes / "disc" / "with space.jpg", 0)
    assert problems(path) == ()


def test_a_list_of_paths_and_names(shapes: Path) -> None:
    data = dataset.read(str(write_list(shapes, *listed("wheel", "hoop"))))
    assert data.classes == ("hoop", "wheel")
    assert data.examples[0].label == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("disc/none.jpg 0", "line 11: expected a file. Received: "),
        ("disc/000.jpg", "line 11: expected `path label`. Received: 'disc/000.jpg'."),
        ("disc/000.jpg -1", "line 11: expected a label of 0 to 1. Received: -1."),
        ("disc/000.jpg 2000000000", "expected a label of 0 to "),
        ("disc/000.jpg 3", "expected pictures in every class. Received: none of 2."),
    ],
)
def test_a_line_that_is_wrong(shapes: Path, line: str, words: str) -> None:
    assert words in " ".join(problems(write_list(shapes, *listed(), line)))


def test_labels_out_of_the_range_that_the_names_give(shapes: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("disc\nring\n")
    found = problems(write_list(shapes, *listed("1", "2")), labels)
    assert "line 6: expected a label of 0 to 1. Received: 2." in found[0]
    assert problems(write_list(shapes, *listed("disc", "ring")), labels) == ()
    found = problems(write_list(shapes, *listed("disc", "rings")), labels)
    assert "line 6: expected a label of one of disc, ring. Received: rings." in found[0]


def test_many_wrong_lines_are_summed_up(shapes: Path) -> None:
    found = problems(write_list(shapes, *(f"none{i}.jpg 0" for i in range(20))))
    assert len(found) == 6
    assert found[-1].endswith("15 more lines like these.")


def test_a_file_that_is_there_twice_is_refused(shapes: Path) -> None:
    again = shapes / "ring" / "again.jpg"
    again.symlink_to(shapes / "disc" / "001.jpg")
    (shapes / "empty").mkdir()
    first, second = problems(shapes)
    assert first == (
        f"task.data={shapes}: expected each picture once. "
        f"Received: {shapes / 'disc' / '001.jpg'} and {again} are one file."
    )
    assert "expected pictures in every class" in second
    again.unlink()
    lines = ["disc/000.jpg 0", "ring/../disc/001.jpg 1", *(f"disc/00{i}.jpg 0" for i in range(5)), *listed()[:4]]
    (sentence, *_) = problems(write_list(shapes, *listed(), *lines))
    assert f"Received: line 1 ({shapes}/disc/000.jpg) and line 11 ({shapes}/disc/000.jpg) are one file; " in sentence
    assert f"line 2 ({shapes}/disc/001.jpg) and line 12 ({shapes}/ring/../disc/001.jpg) are one file; " in sentence
    assert sentence.endswith(" and 6 more.")


def test_empty_single_and_small_classes(shapes: Path) -> None:
    (shapes / "empty").mkdir()
    (shapes / "small").mkdir()
    picture("disc", 0).save(shapes / "small" / "a.jpg")
    assert [sentence.partition(": ")[2] for sentence in problems(shapes)] == [
        "expected pictures in every class. Received: none of empty.",
        "expected at least 2 pictures a class, one of them for validation. Received: 1 of small.",
    ]
    assert "expected at least 2 classes. Received: disc." in problems(make_shapes(shapes / "one", 3, ("disc",)))[0]
    assert "Received: no folder in it." in problems(shapes / "disc")[0]
    assert "where there is none" in problems(shapes / "nowhere")[0]
    assert "expected a list as text in UTF-8" in problems(shapes / "disc" / "000.jpg")[0]


def test_unreadable_pictures_are_refused_or_left_out(shapes: Path) -> None:
    for i in range(3):
        (shapes / "disc" / f"bad{i}.jpg").write_bytes(b"no picture")
    (sentence,) = problems(shapes)
    assert "3 pictures cannot be used; task.unreadable=skip leaves such out: " in sentence
    assert "bad0.jpg cannot be read: not JPEG, PNG, BMP, WebP, GIF, " in sentence
    assert problems(shapes, skip=True) == ()
    for path in (shapes / "ring").iterdir():
        path.write_bytes(b"no picture")
    assert "Received: none of ring." in problems(shapes, skip=True)[0]


def test_a_part_without_a_class_is_refused(shapes: Path) -> None:
    data = dataset.read(str(shapes))
    discs = [example for example in data.examples if example.label == 0]
    assert dataset.part_problems("shapes", "train on", data.examples, data.classes) == []
    assert dataset.part_problems("shapes", "validate with", discs, data.classes) == [
        "task.data=shapes: expected pictures of every class to validate with, without those that cannot be read. "
        "Received: none of ring."
    ]


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


def test_files_folders_and_patterns(shapes: Path) -> None:
    one = str(shapes / "ring" / "003.jpg")
    assert dataset.matching(one) == [Path(one)]
    assert len(dataset.matching(str(shapes))) == 10
    assert len(dataset.matching(str(shapes / "*" / "00[12].jpg"))) == 4
    assert len(dataset.matching([one, str(shapes / "**" / "003.jpg")])) == 2
    with pytest.raises(DataError) as caught:
        dataset.matching([one, str(shapes / "*.gif"), str(shapes / "none.jpg")])
    assert len(caught.value.problems) == 2
    (shapes / "nothing").mkdir()
    with pytest.raises(DataError, match="expected pictures in this folder"):
        dataset.matching(str(shapes / "nothing"))
