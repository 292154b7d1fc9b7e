from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.tasks.pictures import dataset
from sweeps.tasks.pictures.dataset import Example
from tests.support.picture_data import data_problems, listed, write_list


def test_a_list_of_paths_and_numbers(shapes: Path) -> None:
    (shapes / "disc" / "000.jpg").rename(shapes / "disc" / "with space.jpg")
    path = write_list(shapes, "disc/with space.jpg 0", "", *listed()[1:])
    data = dataset.read(str(path))
    assert data.classes == ("0", "1")
    assert data.examples[0] == Example(shapes / "disc" / "with space.jpg", 0)
    assert data_problems(path) == ()


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
    assert words in " ".join(data_problems(write_list(shapes, *listed(), line)))


def test_labels_out_of_the_range_that_the_names_give(shapes: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("disc\nring\n")
    problems = data_problems(write_list(shapes, *listed("1", "2")), labels)
    assert "line 6: expected a label of 0 to 1. Received: 2." in problems[0]
    assert data_problems(write_list(shapes, *listed("disc", "ring")), labels) == ()
    problems = data_problems(write_list(shapes, *listed("disc", "rings")), labels)
    assert "line 6: expected a label of one of disc, ring. Received: rings." in problems[0]


def test_many_wrong_lines_are_summed_up(shapes: Path) -> None:
    problems = data_problems(write_list(shapes, *(f"none{i}.jpg 0" for i in range(20))))
    assert len(problems) == 6
    assert problems[-1].endswith("15 more lines like these.")


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
    assert data_problems(shapes / "list.txt") == ()


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
    assert words in data_problems(shapes, tmp_path / "names.txt")[0]
    assert words in data_problems(tmp_path / "names.txt")[0]


def test_names_of_classes_with_a_byte_order_mark(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfring \r\ndisc\r\n")
    assert dataset.class_names(str(tmp_path / "names.txt")) == ("ring", "disc")
    assert data_problems(shapes, tmp_path / "names.txt") == ()
