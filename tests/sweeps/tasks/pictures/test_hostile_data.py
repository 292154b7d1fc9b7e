"""Lists, labels and folders of pictures that are odd on purpose: one sentence per problem, never a traceback."""

from __future__ import annotations

import io
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.plan import checks as plan_checks
from sweeps.tasks import checks
from sweeps.tasks.picture_classifier import pictures
from sweeps.tasks.pictures import data_checks, dataset, image_paths
from sweeps.tasks.pictures.dataset import DataError
from tests.support.picture_data import make_shapes, picture, task_args
from tracking.record import Trial
from tracking.schema.device import Device

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
NOBODY = 65534
LONG = "n" * 300
DEVICE = Device(name="cpu", kind="cpu", cpus=1)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 3, ("disc", "ring"))


@pytest.fixture
def own_shapes(tmp_path: Path) -> Path:
    return make_shapes(tmp_path / "shapes", 3, ("disc", "ring"))


def problems(data: object, labels: object = None, *, skip: bool = False) -> tuple[str, ...]:
    data_checks.problems.cache_clear()
    return data_checks.problems(str(data), None if labels is None else str(labels), 0.3, skip)


def odd_places(folder: Path) -> dict[str, str]:
    """Paths that are not files, with the words that name what they are."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return {
        str(folder / "pipe"): "a named pipe",
        str(folder / "socket"): "a socket",
        "/dev/zero": "a device",
        str(folder / "loop"): "cannot be followed",
        str(folder / "dangling"): "a path where there is none",
        str(folder / LONG): "cannot be followed (File name too long)",
        str(folder / "pipe" / "below"): "cannot be followed (Not a directory)",
        "zero\0byte": "a path with a zero byte",
        "": "a path where there is none",
    }


def test_every_key_that_takes_a_path_says_what_is_there(tmp_path: Path, own_shapes: Path) -> None:
    for path, words in (odd_places(tmp_path) | {str(tmp_path / "folder"): "a folder"}).items():
        trial = Trial(model="tiny", batch=1, device=DEVICE, weights=path)
        *_, sentence = plan_checks.problems([trial], [], files=True)
        assert f"expected a file. Received: {words}" in sentence.replace("a path that ", ""), path
        args = task_args("classify", images=str(own_shapes / "disc" / "000.jpg"), labels=path)
        sentences = " ".join(checks.files(Trial(model="tiny", batch=1, device=DEVICE, task="classify", task_args=args)))
        assert "task.labels=" in sentences, path
        assert words in sentences
        if words == "a folder" or not path:
            continue
        (sentence,) = problems(path)
        assert sentence.startswith(f"task.data={path}: expected a folder or a list file.")
        assert words in sentence
        with pytest.raises(DataError) as raised:
            image_paths.matching(path)
        assert "expected a file, a folder or a pattern that matches files" in str(raised.value)


def test_files_that_are_not_pictures_are_reported_and_can_be_skipped(own_shapes: Path) -> None:
    disc = own_shapes / "disc"
    os.mkfifo(disc / "pipe.jpg")
    (disc / "zero.png").symlink_to("/dev/zero")
    (disc / "loop.gif").symlink_to("loop.gif")
    (disc / "folder.jpg").mkdir()
    (disc / "empty.jpg").touch()
    (disc / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(b"no picture")
    (disc / "line\nfeed\x1b[31m.jpg").write_bytes((disc / "000.jpg").read_bytes()[:300])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(disc / "socket.jpg"))
    (sentence,) = problems(own_shapes)
    assert "7 pictures cannot be used" in sentence
    assert "pipe.jpg cannot be read: not a file" in sentence
    assert problems(own_shapes, skip=True) == ()
    data = dataset.read(str(own_shapes))
    assert len(data.fingerprint) == 16
    with pytest.raises(pictures.PictureError, match=r"is damaged|cannot be read"):
        pictures.read(disc / "line\nfeed\x1b[31m.jpg", (8, 8))
    (disc / "000.jpg").rename(disc / os.fsdecode(b"\xfc.jpg"))
    assert problems(own_shapes, skip=True) == ()
    assert len(image_paths.matching(str(disc))) == 10


def test_links_that_lead_round_are_followed_once(own_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two such links are ways without end: each step doubles them."""
    for name in ("again", "once more"):
        (own_shapes / "disc" / name).symlink_to("..")
        (own_shapes / "ring" / name).symlink_to(own_shapes / "ring")
    (own_shapes / "elsewhere").symlink_to(own_shapes)
    with pytest.raises(DataError, match="expected a folder"):
        dataset.read(str(own_shapes / "ring" / "000.jpg" / "x"))
    assert any("expected each picture once" in sentence for sentence in problems(own_shapes))
    for name in ("again", "once more"):
        (own_shapes / "disc" / name).unlink()
    (own_shapes / "elsewhere").unlink()
    assert problems(own_shapes) == ()
    pattern = f"{own_shapes}/**/*.jpg"
    assert len(image_paths.matching(pattern)) == 6
    assert len(image_paths.matching(f"{own_shapes}/**")) == 6
    assert image_paths.matching(f"{own_shapes}/**/ring/**/00[01].jpg") == [
        own_shapes / "ring" / f"00{i}.jpg" for i in (0, 1)
    ]
    monkeypatch.chdir(own_shapes)
    assert image_paths.matching("**/001.jpg") == [Path("disc/001.jpg"), Path("ring/001.jpg")]


def write_list(folder: Path, *lines: str) -> Path:
    (folder / "list.txt").write_text("\n".join(lines) + "\n", errors="surrogateescape")
    return folder / "list.txt"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("²", "2 classes"),
        ("٣", "2 classes"),
        ("1_0", "2 classes"),
        ("+1", ""),
        ("9" * 5000, "at most 250 characters"),
        ("9" * 200, "expected a label of 0 to"),
        ("-1", "expected a label of 0 to"),
        ("1.0", "2 classes"),
        ("a\x1b[31mb", "printable characters. Received: a\\x1b[31mb"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}", "printable characters"),
        (LONG, "at most 250 characters. Received: 300 characters"),
    ],
)
def test_labels_of_every_kind(own_shapes: Path, label: str, words: str) -> None:
    lines = [f"{kind}/00{i}.jpg\t{number}" for kind, number in (("disc", "0"), ("ring", "1")) for i in range(2)]
    sentences = problems(write_list(own_shapes, *lines, f"disc/002.jpg\t{label}"))
    if words in ("", "2 classes"):  # a name beside numbers: all are names, and this one has too few pictures
        assert all("expected at least 2 pictures per class" in sentence for sentence in sentences)
        assert bool(sentences) == bool(words)
    else:
        assert words in " ".join(sentences)


def test_paths_of_every_kind_in_a_list(own_shapes: Path) -> None:
    odd = odd_places(own_shapes)
    del odd[""], odd["zero\0byte"]
    sentences = problems(write_list(own_shapes, "list.txt 0", *(f"{path} 1" for path in odd)))
    assert len(sentences) == 6
    assert "more lines like these" in sentences[-1]
    assert all(len(sentence) < 1200 for sentence in sentences)
    (sentence, *_) = problems(
        write_list(own_shapes, "list.txt 0", "disc/000.jpg 0", "disc/001.jpg 1", "ring/000.jpg 1")
    )
    assert "list.txt cannot be read: not JPEG" in sentence
    (sentence, *_) = problems(write_list(own_shapes, "x" * 100_000))
    assert len(sentence) < 600


def test_texts_that_are_too_large_or_none(tmp_path: Path, shapes: Path) -> None:
    large = tmp_path / "labels.txt"
    with large.open("wb") as file:
        file.truncate(10 * 2**30)
    (sentence,) = problems(shapes, large)
    assert "of at most 16 MB. Received: more than 16 MB" in sentence
    for content, words in (
        (b"disc\nri\0ng", "zero bytes"),
        (b"\xff\xfed\0i\0", "UTF-16"),
        (b"disc\n\xffring", "0xff in line 2"),
    ):
        (tmp_path / "names.txt").write_bytes(content)
        assert words in " ".join(problems(shapes, tmp_path / "names.txt"))
    (tmp_path / "names.txt").write_text("disc\nring\x07\n")
    assert (
        "line 2: expected a class name of printable characters. Received: ring\\x07."
        in problems(shapes, tmp_path / "names.txt")[0]
    )


def test_folders_whose_names_are_no_text(own_shapes: Path) -> None:
    (own_shapes / "ring").rename(own_shapes / os.fsdecode(b"r\xefng"))
    assert "expected a class name of printable characters. Received: r\\udcefng." in problems(own_shapes)[0]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_this_user_may_not_read(open_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    shapes = make_shapes(open_folder / "shapes", 3, ("disc", "ring"))
    (shapes / "disc" / "secret").mkdir(mode=0o700)
    (shapes / "ring" / "000.jpg").chmod(0o600)
    names, closed = open_folder / "names.txt", open_folder / "closed"
    names.write_text("disc\nring\n")
    names.chmod(0o600)
    closed.mkdir(mode=0o700)
    os.seteuid(NOBODY)
    try:
        inside, labels, folder, within = (
            problems(*given) for given in ((shapes,), (shapes, names), (closed,), (closed / "x",))
        )
        os.seteuid(0)
        (shapes / "disc" / "secret").rmdir()
        os.seteuid(NOBODY)
        (picture_,) = problems(shapes)
    finally:
        os.seteuid(0)
    assert f"expected folders that can be read. Received: {shapes}/disc/secret (Permission denied)." in inside[0]
    assert "Received: a file that this user may not read." in labels[0]
    assert f"Received: {closed} (Permission denied)." in folder[0]
    assert "a path that cannot be followed (Permission denied)" in within[0]
    assert "000.jpg cannot be read: Permission denied" in picture_


PATHS = st.one_of(
    st.sampled_from(
        ["disc/000.jpg", "disc/001.jpg", "ring/000.jpg", "ring/001.jpg", "list.txt", ".", "..", "/dev/zero", "disc"]
    ),
    st.text(max_size=20),
    st.sampled_from(["n" * 5000, "~", "$HOME", "*", "disc/../disc/000.jpg"]),
)
LABELS = st.one_of(
    st.integers().map(str), st.text(max_size=12), st.sampled_from(["0", "1", "²", "٣", "1_0", "-0", "0x1", "9" * 6000])
)
LINES = st.builds(
    lambda path, between, label: f"{path}{between}{label}", PATHS, st.sampled_from([" ", "\t", ",", "", "  "]), LABELS
)


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_list_and_labels_give_examples_or_sentences(shapes: Path, data: st.DataObject) -> None:
    lines = data.draw(st.lists(LINES, max_size=8))
    content = data.draw(st.one_of(st.just("\n".join(lines).encode(errors="surrogatepass")), st.binary(max_size=200)))
    names = data.draw(st.one_of(st.none(), st.binary(max_size=60), st.just(b"disc\nring\n")))
    (shapes / "list.txt").write_bytes(content)
    labels = None
    if names is not None:
        labels = shapes / "names.txt"
        labels.write_bytes(names)
    expect_sentences(problems(shapes / "list.txt", labels))
    expect_sentences(problems(shapes, labels))


def expect_sentences(found: tuple[Any, ...]) -> None:
    for sentence in found:
        assert isinstance(sentence, str)
        assert sentence.endswith(".")
        assert len(sentence) < 4000


@settings(max_examples=EXAMPLES)
@given(
    cut=st.floats(0, 1),
    at=st.floats(0, 1, exclude_max=True),
    piece=st.binary(min_size=1, max_size=12),
    kind=st.sampled_from(sorted(pictures.FORMATS)),
)
def test_any_picture_is_read_or_refused(cut: float, at: float, piece: bytes, kind: str) -> None:
    buffer = io.BytesIO()
    picture("disc", 1).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    start = int(at * len(data))
    data[start : start + len(piece)] = piece
    try:
        image = pictures.read(bytes(data[: max(1, int(cut * len(data)))]) if cut < 0.5 else bytes(data), (8, 8))
    except pictures.PictureError:
        return
    assert image.shape == (8, 8, 3)
