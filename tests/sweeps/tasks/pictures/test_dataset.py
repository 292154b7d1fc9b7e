from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.tasks.pictures import copies, dataset
from sweeps.tasks.pictures.dataset import DataError, Example
from tests.support.picture_data import make_shapes, picture


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
    assert "Received: a path where there is none." in problems(shapes, tmp_path / "none.txt")[0]


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


def test_copies_are_seen_by_their_content(shapes: Path) -> None:
    (shapes / "disc" / "empty.jpg").touch()
    (shapes / "ring" / "empty.jpg").touch()
    (shapes / "disc" / "long.ppm").write_bytes(b"P6 200 200 255\n" + bytes(120_000))
    (shapes / "ring" / "long.ppm").write_bytes(b"P6 200 200 255\n" + bytes(60_000) + b"\1" + bytes(59_999))
    assert problems(shapes, skip=True) == ()  # files that cannot be read are left out, alike as they are
    (shapes / "ring" / "link.jpg").hardlink_to(shapes / "ring" / "002.jpg")
    (shapes / "ring" / "same class.JPG").write_bytes((shapes / "ring" / "003.jpg").read_bytes())
    (shapes / "ring" / "other class.jpg").write_bytes((shapes / "disc" / "000.jpg").read_bytes())
    (sentence,) = problems(shapes, skip=True)
    for words in (
        f"{shapes}/ring/002.jpg and {shapes}/ring/link.jpg are one file",
        f"{shapes}/ring/003.jpg and {shapes}/ring/same class.JPG have the same content",
        f"{shapes}/disc/000.jpg and {shapes}/ring/other class.jpg have the same content",
    ):
        assert words in sentence
    lines = ["disc/000.jpg 0", "disc/001.jpg 0", "ring/000.jpg 1", "ring/other class.jpg 1"]
    assert "line 1 (" in problems(write_list(shapes, *lines))[0]


def test_pictures_that_look_the_same() -> None:
    one, two, three = Path("one.png"), Path("two.jpg"), Path("three.jpg")
    assert copies.lookalikes({one: b"a"}, {two: b"b"}) is None
    sentence = copies.lookalikes({one: b"a"}, {two: b"b", three: b"a"})
    assert sentence is not None
    assert "1 of 2 pictures to validate with" in sentence
    assert "three.jpg and one.png" in sentence
    looks = {one: b"a", two: b"b", three: b"a"}
    assert copies.contradictions(looks, {one: 0, two: 1, three: 0}) is None
    sentence = copies.contradictions(looks, {one: 0, two: 1, three: 1})
    assert sentence is not None
    assert "1 of 3 pictures" in sentence
    assert "one.png and three.jpg" in sentence


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", " \t "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n"])
def test_lists_as_programs_write_them(shapes: Path, separator: str, end: str) -> None:
    (shapes / "disc" / "000.jpg").rename(shapes / "disc" / "a b,c.jpg")
    lines = ["disc/a b,c.jpg 0", *listed()[1:]]
    text = "".join(separator.join(line.rsplit(" ", 1)) + end for line in lines)
    (shapes / "list.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    data = dataset.read(str(shapes / "list.txt"))
    assert (len(data.examples), data.classes) == (10, ("0", "1"))
    assert data.examples[0] == Example(shapes / "disc" / "a b,c.jpg", 0)
    assert problems(shapes / "list.txt") == ()


def test_labels_with_blanks_after_a_tab(shapes: Path) -> None:
    path = write_list(shapes, *(line.replace(" ", "\t", 1) for line in listed("round disc", "ring")))
    assert dataset.read(str(path)).classes == ("ring", "round disc")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("disc\nring\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        ("disc\nring\n".encode("utf-32"), "UTF-32; save it as UTF-8"),
        ("disc\nring\n".encode("utf-16-le"), "zero bytes, as UTF-16"),
        ("ring\ndisc\nöl\n".encode("latin-1"), "a byte 0xf6 in line 3 that is not UTF-8"),
    ],
)
def test_text_of_another_encoding(shapes: Path, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    assert words in problems(shapes, tmp_path / "names.txt")[0]
    assert words in problems(tmp_path / "names.txt")[0]


def test_names_of_classes_with_a_byte_order_mark(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfring \r\ndisc\r\n")
    assert dataset.class_names(str(tmp_path / "names.txt")) == ("ring", "disc")
    assert problems(shapes, tmp_path / "names.txt") == ()


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
    assert problems(shapes) == ()
    learning, held_out = dataset.split(data, 0.2, seed=1)
    assert {example.path.relative_to(shapes).parts[0] for example in learning} == {train}
    assert {example.path.relative_to(shapes).parts[0] for example in held_out} == {validate}
    assert [(len(learning), len(held_out)), [e.label for e in held_out]] == [(10, 4), [0, 0, 1, 1]]


def test_parts_that_do_not_go_together(shapes: Path) -> None:
    parted(shapes, "train", "val")
    (shapes / "test" / "disc").mkdir(parents=True)
    assert problems(shapes) == ()
    assert f"left out: {shapes}/test." in dataset.read(str(shapes)).remarks
    (shapes / "val" / "disc").rename(shapes / "val" / "disk")
    assert (
        "the same class folders in train and val. Received: disc only in train; disk only in val."
        in (problems(shapes)[0])
    )
    (shapes / "val" / "disk").rename(shapes / "val" / "disc")
    again = shapes / "val" / "ring" / "again.jpg"
    again.write_bytes((shapes / "train" / "ring" / "001.jpg").read_bytes())
    assert "train/ring/001.jpg and " in problems(shapes)[0]
    again.unlink()
    for path in (shapes / "val" / "ring").iterdir():
        path.unlink()
    assert problems(shapes) == (
        f"task.data={shapes}: expected pictures of every class to validate with. Received: none of ring.",
    )
    (shapes / "bus").mkdir()
    assert "no class beside them. Received: bus, test, train, val." in problems(shapes)[0]
    (shapes / "bus").rmdir()
    (shapes / "val").rename(shapes / "elsewhere")
    (shapes / "elsewhere").rename(shapes.parent / "elsewhere")
    (shapes / "test").rename(shapes.parent / "test")
    assert f"Received: only train; for its classes say task.data={shapes}/train." in problems(shapes)[0]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "photos", 3, ("disc", "ring"))
    (data / "disc").rename(data / "train")
    (data / "ring").rename(data / "test_tube")
    assert problems(data) == ()
    assert dataset.read(str(data)).classes == ("test_tube", "train")


def test_classes_that_are_parted_themselves_are_refused(tmp_path: Path) -> None:
    cats = make_shapes(tmp_path / "pets" / "cats", 3, ("disc", "ring"))
    (cats / "disc").rename(cats / "train")
    (cats / "ring").rename(cats / "val")
    assert problems(tmp_path / "pets") == (
        f"task.data={tmp_path}/pets: expected train and val around the class folders. Received: cats/train, cats/val; "
        f"if cats is no class, say task.data={tmp_path}/pets/cats, otherwise exchange the two levels or use a list of "
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
        f"left out: 2 .txt, 1 without a suffix, 1 .md that are no pictures, e.g. {shapes}/ring/a.txt.",
    )
    assert problems(shapes) == ()


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
