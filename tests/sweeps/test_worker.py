from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps import cores, worker
from sweeps.devices import Node
from sweeps.errors import DispatchError
from tracking.quality import judged
from tracking.record import Classic, Device, Trial

TINY = Trial(
    model="tiny", batch=1, passes=("forward",), protocol=Classic(burn_in=1, steps=2), device=Device(exclusive_node=True)
)


def test_what_a_trial_leaves_on_another_machine_comes_with_its_result(server: str, tmp_path: Path) -> None:
    away = Path(server).parent / "trials" / TINY.trial_id
    (away / "checkpoints").mkdir(parents=True)
    (away / "files" / "deep").mkdir(parents=True)
    (away / "files" / "deep" / "note.txt").write_text("hello")
    with (away / "files" / "deep" / "large.bin").open("wb") as file:
        file.truncate(worker.LARGEST_PARCEL + 1)  # a hole, which takes no room
    place = worker.Place(server=server, node=Node(cpus=len(cores.available())), folder=None)
    result, parcel = worker.run(TINY, "s", place, TINY.passes, ())
    assert result.ok, result.error
    lost = "files: files/deep/large.bin (2147483649 bytes) stayed on the node and is lost"
    assert result.quality == (lost,)
    assert lost in judged(result).quality
    here = worker.folder_of(TINY, tmp_path)
    worker.unpack(parcel, here)
    assert (here / "files" / "deep" / "note.txt").read_text() == "hello"
    assert "Forward across 2 steps" in (here / "log.txt").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["files", "log.txt"]
    assert [path.name for path in away.iterdir()] == ["checkpoints"]  # for another try on that machine
    (away / "checkpoints").rmdir()
    away.rmdir()


def test_on_the_drivers_machine_a_trial_writes_in_place(server: str, tmp_path: Path) -> None:
    place = worker.Place(server=server, node=Node(cpus=1), folder=tmp_path)
    result, parcel = worker.run(replace(TINY, device=Device()), "s", place, TINY.passes, ())
    assert result.ok, result.error
    assert parcel == b""
    assert len(result.host["cores"]) == 1
    assert (worker.folder_of(result.trial, tmp_path) / "log.txt").stat().st_size > 0


def test_files_too_large_to_travel_are_told_in_the_log(tmp_path: Path) -> None:
    away, here = tmp_path / "away", tmp_path / "here"
    (away / "files").mkdir(parents=True)
    (away / "files" / "a.bin").write_bytes(bytes(60))
    (away / "files" / "b.bin").write_bytes(bytes(60))
    (away / "log.txt").write_text("words\n")
    parcel, left = worker.pack(away, largest=100)
    assert left == {"files/b.bin": 60}
    worker.unpack(parcel, here)
    assert [path.name for path in (here / "files").iterdir()] == ["a.bin"]
    assert (here / "log.txt").read_text() == "words\nfiles/b.bin did not travel: 60 bytes, 40 were left\n"
    assert not away.exists()


def test_of_many_lost_files_the_largest_are_named() -> None:
    reasons = worker._lost({f"files/{size}": size for size in range(8)})
    assert reasons[0] == "files: files/7 (7 bytes) stayed on the node and is lost"
    assert reasons[5:] == ["files: 3 more stayed on the node and are lost"]
    assert worker._lost({}) == []


def test_a_trial_that_left_nothing_still_has_a_log(tmp_path: Path) -> None:
    parcel, left = worker.pack(tmp_path / "none")
    assert left == {}
    worker.unpack(parcel, tmp_path / "here")
    assert (tmp_path / "here" / "log.txt").read_text() == "\n"


def test_a_folder_that_cannot_be_written_ends_the_dispatch(tmp_path: Path) -> None:
    (tmp_path / "trials").touch()
    with pytest.raises(DispatchError, match="expected room for results"):
        worker.unpack(worker.pack(tmp_path / "none")[0], tmp_path / "trials" / "x")
