from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.errors import DispatchError
from sweeps.machine import cores
from sweeps.machine.node import Node
from sweeps.worker import on_node
from tracking.analysis.doubts import judged
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Classic

TINY = Trial(
    model="tiny", batch=1, passes=("forward",), protocol=Classic(burn_in=1, steps=2), device=Device(exclusive_node=True)
)


def test_what_a_trial_leaves_on_another_machine_comes_with_its_result(server: str, tmp_path: Path) -> None:
    away = TrialFolder.within(Path(server).parent, TINY.trial_id).path
    (away / "checkpoints").mkdir(parents=True)
    (away / "files" / "deep").mkdir(parents=True)
    (away / "files" / "deep" / "note.txt").write_text("hello")
    with (away / "files" / "deep" / "large.bin").open("wb") as file:
        file.truncate(on_node.LARGEST_PARCEL + 1)  # a hole, which takes no room
    place = on_node.Place(server=server, node=Node(cpus=len(cores.available())), folder=None)
    result, parcel = on_node.run(TINY, "s", place, TINY.passes, ())
    assert result.ok, result.error
    lost = "files: files/deep/large.bin (2147483649 bytes) stayed on the node and is lost"
    assert result.quality == (lost,)
    assert lost in judged(result).quality
    own = TrialFolder.within(tmp_path, TINY.trial_id)
    on_node.unpack(parcel, own)
    here = own.path
    assert (here / "files" / "deep" / "note.txt").read_text() == "hello"
    assert "Forward across 2 steps" in (here / "log.txt").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["files", "log.txt"]
    assert [path.name for path in away.iterdir()] == ["checkpoints"]  # for another try on that machine
    (away / "checkpoints").rmdir()
    away.rmdir()


def test_on_the_drivers_machine_a_trial_writes_in_place(server: str, tmp_path: Path) -> None:
    place = on_node.Place(server=server, node=Node(cpus=1), folder=tmp_path)
    result, parcel = on_node.run(replace(TINY, device=Device()), "s", place, TINY.passes, ())
    assert result.ok, result.error
    assert parcel == b""
    assert len(result.host["cores"]) == 1
    assert TrialFolder.within(tmp_path, result.trial_id).log.stat().st_size > 0


def test_files_too_large_to_travel_are_reported_in_the_log(tmp_path: Path) -> None:
    away, here = tmp_path / "away", tmp_path / "here"
    (away / "files").mkdir(parents=True)
    (away / "files" / "a.bin").write_bytes(bytes(60))
    (away / "files" / "b.bin").write_bytes(bytes(60))
    (away / "log.txt").write_text("words\n")
    parcel, left = on_node.pack(TrialFolder(away), largest=100)
    assert left == {"files/b.bin": 60}
    on_node.unpack(parcel, TrialFolder(here))
    assert [path.name for path in (here / "files").iterdir()] == ["a.bin"]
    assert (here / "log.txt").read_text() == "words\nfiles/b.bin did not travel: 60 bytes, 40 were left\n"
    assert not away.exists()


def test_of_many_lost_files_the_largest_are_named() -> None:
    reasons = on_node._lost({f"files/{size}": size for size in range(8)})
    assert reasons[0] == "files: files/7 (7 bytes) stayed on the node and is lost"
    assert reasons[5:] == ["files: 3 more stayed on the node and are lost"]
    assert on_node._lost({}) == []


def test_a_trial_that_left_nothing_still_has_a_log(tmp_path: Path) -> None:
    parcel, left = on_node.pack(TrialFolder(tmp_path / "none"))
    assert left == {}
    on_node.unpack(parcel, TrialFolder(tmp_path / "here"))
    assert (tmp_path / "here" / "log.txt").read_text() == "\n"


def test_a_folder_that_cannot_be_written_ends_the_dispatch(tmp_path: Path) -> None:
    (tmp_path / "trials").touch()
    with pytest.raises(DispatchError, match="expected room for results"):
        on_node.unpack(on_node.pack(TrialFolder(tmp_path / "none"))[0], TrialFolder.within(tmp_path, "x"))


def odd_files(folder: Path) -> Path:
    """A trial's folder with everything in it that a trial may leave, and two files that are good."""
    files = folder / "files"
    (files / "deep").mkdir(parents=True)
    (files / "good.txt").write_text("good")
    (files / "deep" / "\udcff\n.txt").write_text("oddly named")
    os.link(files / "good.txt", files / "hard.txt")
    (files / "secret").symlink_to("/etc/passwd")
    (files / "above").symlink_to("../../plan.json")
    (files / "within").symlink_to("good.txt")
    (files / "loop").symlink_to("loop")
    (files / "etc").symlink_to("/etc")
    (files / "nothing").symlink_to("/nowhere")
    os.mkfifo(files / "fifo")
    (folder.parent / "plan.json").write_text("{}")
    os.mkfifo(folder / "log.txt")
    return folder


def test_what_is_no_file_of_the_trial_does_not_travel(tmp_path: Path) -> None:
    parcel, left = on_node.pack(TrialFolder(odd_files(tmp_path / "away")))
    assert sorted(left) == [f"files/{name}" for name in ("above", "etc", "fifo", "loop", "nothing", "secret")]
    assert left["files/secret"] == "a link out of the folder"
    assert left["files/fifo"] == "a pipe, no file"
    assert not (tmp_path / "away").exists()
    assert on_node.unpack(parcel, TrialFolder(tmp_path / "here")) == []
    files = tmp_path / "here" / "files"
    assert {path.name for path in files.rglob("*") if path.is_file()} == {
        "good.txt", "hard.txt", "within", "\udcff\n.txt"
    }  # fmt: skip
    assert not any(path.is_symlink() for path in files.rglob("*"))
    assert (files / "within").read_text() == "good"
    assert "files/secret did not travel" in (tmp_path / "here" / "log.txt").read_text()


@pytest.mark.parametrize("what", ["link", "file", "fifo"])
def test_files_that_are_no_folder(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "away"
    folder.mkdir()
    if what == "link":
        (folder / "files").symlink_to("/etc")
    elif what == "file":
        (folder / "files").write_text("x")
    else:
        os.mkfifo(folder / "files")
    (folder / "log.txt").symlink_to("/etc/passwd")
    parcel, left = on_node.pack(TrialFolder(folder))
    assert list(left) == ["files/files"]
    on_node.unpack(parcel, TrialFolder(tmp_path / "here"))
    assert "root:" not in (tmp_path / "here" / "log.txt").read_text()
    assert not folder.exists()
    assert Path("/etc/passwd").exists()


def parcel_of(*entries: tarfile.TarInfo, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as parcel:
        for entry in entries:
            entry.size = len(content) if entry.isfile() else 0
            parcel.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def bomb() -> bytes:
    """A parcel whose first entry describes itself in two billion bytes."""
    entry = tarfile.TarInfo("././@PaxHeader")
    entry.type, entry.size = tarfile.XHDTYPE, 2**31 - 1
    return gzip.compress(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(2**24))


@pytest.mark.parametrize(
    ("parcel", "words"),
    [
        (b"no parcel", "are damaged"),
        (b"", "are damaged"),
        (parcel_of(tarfile.TarInfo("log.txt"), content=random.Random(0).randbytes(9999))[:5000], "are damaged"),
        (gzip.compress(b"no archive" * 1000), "are damaged"),
        (bomb(), "are damaged"),
        (parcel_of(tarfile.TarInfo("../escaped")), "are damaged"),
        (parcel_of(link("files/secret", "/etc/passwd")), "is not a file and was left out"),
        (parcel_of(link("files/hard", "/etc/passwd", tarfile.LNKTYPE)), "is not a file and was left out"),
        (parcel_of(link("files/fifo", "", tarfile.FIFOTYPE)), "is not a file and was left out"),
    ],
    ids=["bytes", "empty", "cut off", "no archive", "bomb", "escaping", "link", "hard link", "fifo"],
)
def test_a_parcel_that_is_damaged_is_a_doubt(tmp_path: Path, parcel: bytes, words: str) -> None:
    (reason,) = on_node.unpack(parcel, TrialFolder(tmp_path / "here"))
    assert reason.startswith("files: ")
    assert words in reason
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
