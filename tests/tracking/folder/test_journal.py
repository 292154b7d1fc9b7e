"""The journal under power cuts, damage, a full disk and a second writer."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep, write_journal
from tracking.folder.journal import PLAN, RESULTS, Journal, JournalError, LockedError
from tracking.record import Result

ROOT = Path(__file__).parents[3]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel refuses to write any file beyond `size` bytes: as a full disk does, after a part was written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def short_result(batch: int) -> Result:
    return replace(make_result(batch=batch, steps=1, passes=("forward",)), layers=())


def filled(folder: Path, count: int = 3) -> list[Result]:
    results = [short_result(batch) for batch in range(1, count + 1)]
    write_journal(make_sweep(results, folder), results)
    return results


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = [
        make_result(model="vgg16", batch=4, model_args={"depth": 16, "wide": None}),
        make_result(model="tiny", status="crashed", device="gpu0", precision="bfloat16"),
        make_result(batch=8, quality=("another process took 4% of the cores",)),
    ]
    sweep = make_sweep(results, tmp_path)
    with Journal(tmp_path) as journal:
        journal.write_plan(sweep)
        for result in results:
            journal.append(result)
        assert journal.read() == results
    assert Journal(tmp_path).read_plan() == sweep
    assert Journal(tmp_path).read() == results
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.lock", PLAN, RESULTS]


def test_line_is_one_object_with_the_derived_figures(tmp_path: Path) -> None:
    (result,) = filled(tmp_path, count=1)
    (line,) = (tmp_path / RESULTS).read_text().splitlines()
    record = json.loads(line)
    assert record["trial_id"] == result.trial_id
    assert record["passes"]["forward"]["mean_s"] == result.passes["forward"].mean_s


def test_nothing_written_is_no_result(tmp_path: Path) -> None:
    assert Journal(tmp_path).read() == []


def test_newest_result_of_a_trial_wins_and_keeps_its_place(tmp_path: Path) -> None:
    failed, other = make_result(batch=1, status="oom"), make_result(batch=2)
    again = make_result(batch=1)
    with Journal(tmp_path) as journal:
        for result in (failed, other, again):
            journal.append(result)
        assert journal.read() == [again, other]


def test_cut_off_at_every_byte_of_the_last_line(tmp_path: Path) -> None:
    results = filled(tmp_path)
    content = (tmp_path / RESULTS).read_bytes()
    start = content.rfind(b"\n", 0, -1) + 1
    extra = short_result(99)
    for length in range(start, len(content)):
        (tmp_path / RESULTS).write_bytes(content[:length])
        journal = Journal(tmp_path)
        assert journal.read() == results[:2]
        assert len(journal.notes) == (length > start)
        journal.append(extra)
        assert journal.read() == [*results[:2], extra]
        assert journal.notes == []
        journal.close()


def test_damaged_line_is_named_and_the_others_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = filled(tmp_path, count=4)
    lines = (tmp_path / RESULTS).read_bytes().splitlines(keepends=True)
    for damage in (b"{}\n", b"[1]\n", b"\xff\xfe\x00\n", b"\n", lines[1][:40] + b"\n", b'{"trial": null}\n'):
        (tmp_path / RESULTS).write_bytes(b"".join([lines[0], damage, *lines[2:]]))
        journal = Journal(tmp_path)
        assert journal.read() == [results[0], *results[2:]]
        (note,) = journal.notes
        assert "line 2 is damaged" in note
        assert note in caplog.text


def test_newer_format_is_refused(tmp_path: Path) -> None:
    (result,) = filled(tmp_path, count=1)
    (tmp_path / RESULTS).write_text(json.dumps(result.to_json() | {"format": 99}) + "\n")
    with pytest.raises(JournalError, match=r"line 1: expected a record of format .* Received: format=99"):
        Journal(tmp_path).read()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"format": 99}', '{"format": 1, "sweep_id": "x"}'])
def test_folder_without_a_readable_plan(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / PLAN).write_text(content)
    with pytest.raises(JournalError, match=str(tmp_path)):
        Journal(tmp_path).read_plan()


def test_full_disk_leaves_earlier_results_and_ends_with_room(tmp_path: Path) -> None:
    results = filled(tmp_path)
    size = (tmp_path / RESULTS).stat().st_size
    extra = make_result(batch=9)
    with Journal(tmp_path) as journal:
        with (
            file_size_limit(size + 100),
            pytest.raises(JournalError, match=f"the result of trial {extra.trial_id} could not be written: File too"),
        ):
            journal.append(extra)
        assert (tmp_path / RESULTS).stat().st_size == size
        journal.append(extra)
        assert journal.read() == [*results, extra]


def test_full_disk_leaves_the_old_plan(tmp_path: Path) -> None:
    results = filled(tmp_path)
    with Journal(tmp_path) as journal:
        with file_size_limit(100), pytest.raises(JournalError, match="could not be written"):
            journal.write_plan(replace(make_sweep(results, tmp_path), command="another"))
        assert journal.read_plan() == make_sweep(results, tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_second_writer_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    results = filled(tmp_path)
    with Journal(tmp_path) as first:
        first.append(results[0])
        with pytest.raises(LockedError, match=rf"another process \({os.getpid()}\) is writing {tmp_path}"):
            Journal(tmp_path).append(results[0])
        assert Journal(tmp_path).read() == results
    with Journal(tmp_path) as second:
        second.append(results[0])


WRITER = """
import sys
from tests.support.records import make_result
from tracking.folder.journal import Journal

with Journal(sys.argv[1]) as journal:
    for batch in range(1, 100_000):
        journal.append(make_result(batch=batch, steps=200))
        print(batch, flush=True)
"""


def test_killed_writer_loses_nothing_that_append_returned_from(tmp_path: Path) -> None:
    wait = random.Random(0)
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(wait.randrange(5, 60)):
                acknowledged = int(writer.stdout.readline())
            with pytest.raises(LockedError, match=str(writer.pid)):
                Journal(folder).lock()
            writer.send_signal(signal.SIGKILL)
            acknowledged = max(acknowledged, *map(int, writer.stdout.read().split()), 0)
        with Journal(folder) as journal:
            batches = [result.trial.batch for result in journal.read()]
            assert batches == list(range(1, len(batches) + 1))
            assert len(batches) >= acknowledged
            journal.append(make_result(batch=100_000))
            assert len(journal.read()) == len(batches) + 1


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="could not be made: "):
        Journal(tmp_path / "file" / "sweep").lock()
