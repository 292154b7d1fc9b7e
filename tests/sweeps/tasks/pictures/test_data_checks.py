from __future__ import annotations

from pathlib import Path

from sweeps.tasks.pictures import copies, data_checks, dataset
from tests.support.picture_data import data_problems, listed, make_shapes, picture, write_list


def test_a_file_that_is_there_twice_is_refused(shapes: Path) -> None:
    again = shapes / "ring" / "again.jpg"
    again.symlink_to(shapes / "disc" / "001.jpg")
    (shapes / "empty").mkdir()
    first, second = data_problems(shapes)
    assert first == (
        f"task.data={shapes}: expected each picture once. "
        f"Received: {shapes / 'disc' / '001.jpg'} and {again} are one file."
    )
    assert "expected pictures in every class" in second
    again.unlink()
    lines = ["disc/000.jpg 0", "ring/../disc/001.jpg 1", *(f"disc/00{i}.jpg 0" for i in range(5)), *listed()[:4]]
    (sentence, *_) = data_problems(write_list(shapes, *listed(), *lines))
    assert f"Received: line 1 ({shapes}/disc/000.jpg) and line 11 ({shapes}/disc/000.jpg) are one file; " in sentence
    assert f"line 2 ({shapes}/disc/001.jpg) and line 12 ({shapes}/ring/../disc/001.jpg) are one file; " in sentence
    assert sentence.endswith(" and 6 more.")


def test_copies_are_seen_by_their_content(shapes: Path) -> None:
    (shapes / "disc" / "empty.jpg").touch()
    (shapes / "ring" / "empty.jpg").touch()
    (shapes / "disc" / "long.ppm").write_bytes(b"P6 200 200 255\n" + bytes(120_000))
    (shapes / "ring" / "long.ppm").write_bytes(b"P6 200 200 255\n" + bytes(60_000) + b"\1" + bytes(59_999))
    assert data_problems(shapes, skip=True) == ()  # files that cannot be read are left out, alike as they are
    (shapes / "ring" / "link.jpg").hardlink_to(shapes / "ring" / "002.jpg")
    (shapes / "ring" / "same class.JPG").write_bytes((shapes / "ring" / "003.jpg").read_bytes())
    (shapes / "ring" / "other class.jpg").write_bytes((shapes / "disc" / "000.jpg").read_bytes())
    (sentence,) = data_problems(shapes, skip=True)
    for words in (
        f"{shapes}/ring/002.jpg and {shapes}/ring/link.jpg are one file",
        f"{shapes}/ring/003.jpg and {shapes}/ring/same class.JPG have the same content",
        f"{shapes}/disc/000.jpg and {shapes}/ring/other class.jpg have the same content",
    ):
        assert words in sentence
    lines = ["disc/000.jpg 0", "disc/001.jpg 0", "ring/000.jpg 1", "ring/other class.jpg 1"]
    assert "line 1 (" in data_problems(write_list(shapes, *lines))[0]


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


def test_empty_single_and_small_classes(shapes: Path) -> None:
    (shapes / "empty").mkdir()
    (shapes / "small").mkdir()
    picture("disc", 0).save(shapes / "small" / "a.jpg")
    assert [sentence.partition(": ")[2] for sentence in data_problems(shapes)] == [
        "expected pictures in every class. Received: none of empty.",
        "expected at least 2 pictures per class, one of them for validation. Received: 1 of small.",
    ]
    assert "expected at least 2 classes. Received: disc." in data_problems(make_shapes(shapes / "one", 3, ("disc",)))[0]
    assert "Received: no folder in it." in data_problems(shapes / "disc")[0]
    assert "where there is none" in data_problems(shapes / "nowhere")[0]
    assert "expected a list as text in UTF-8" in data_problems(shapes / "disc" / "000.jpg")[0]


def test_unreadable_pictures_are_refused_or_left_out(shapes: Path) -> None:
    for i in range(3):
        (shapes / "disc" / f"bad{i}.jpg").write_bytes(b"no picture")
    (sentence,) = data_problems(shapes)
    assert "3 pictures cannot be used; task.unreadable=skip leaves such out: " in sentence
    assert "bad0.jpg cannot be read: not JPEG, PNG, BMP, WebP, GIF, " in sentence
    assert data_problems(shapes, skip=True) == ()
    for path in (shapes / "ring").iterdir():
        path.write_bytes(b"no picture")
    assert "Received: none of ring." in data_problems(shapes, skip=True)[0]


def test_a_part_without_a_class_is_refused(shapes: Path) -> None:
    data = dataset.read(str(shapes))
    discs = [example for example in data.examples if example.label == 0]
    assert data_checks.part_problems("shapes", "train on", data.examples, data.classes) == []
    assert data_checks.part_problems("shapes", "validate with", discs, data.classes) == [
        "task.data=shapes: expected pictures of every class to validate with, without those that cannot be read. "
        "Received: none of ring."
    ]
