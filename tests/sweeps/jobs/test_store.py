"""Folders to an object store and back; that pyarrow's stores behave alike is up to its own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sweeps.jobs import store


def test_a_folder_goes_to_the_store_and_comes_back(tmp_path: Path) -> None:
    folder, bucket, back = tmp_path / "50% #1 ? é", (tmp_path / "bucket").as_uri(), tmp_path / "deep" / "back"
    (folder / "trials").mkdir(parents=True)
    (folder / "results.jsonl").write_text("one\n")
    (folder / "trials" / "log.txt").write_text("words")
    store.copy(str(folder), f"{bucket}/sweep")
    (folder / "results.jsonl").write_text("one\ntwo\n")
    store.copy(str(folder), f"{bucket}/sweep")
    store.copy(f"{bucket}/sweep", str(back))
    assert (back / "results.jsonl").read_text() == "one\ntwo\n"
    assert (back / "trials" / "log.txt").read_text() == "words"


def test_changes_are_copied_again(tmp_path: Path) -> None:
    folder, bucket = tmp_path / "50% é", tmp_path / "bucket"
    follower = store.Follower(str(folder), f"{bucket.as_uri()}/sweep")
    follower.copy()  # the sweep has not made its folder yet
    (folder / "trials").mkdir(parents=True)
    (folder / "results.jsonl").write_text("one\n")
    (folder / "trials" / "log.txt").write_text("words")
    follower.copy()
    (bucket / "sweep" / "trials" / "log.txt").write_text("left alone")
    (folder / "results.jsonl").write_text("one\ntwo\n")
    follower.copy()
    assert (bucket / "sweep" / "results.jsonl").read_text() == "one\ntwo\n"
    assert (bucket / "sweep" / "trials" / "log.txt").read_text() == "left alone"


def test_a_missing_folder_is_not_copied(tmp_path: Path) -> None:
    store.copy((tmp_path / "none").as_uri(), str(tmp_path / "folder"))
    assert not (tmp_path / "folder").exists()


def test_the_command_prints_an_error_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    command = [sys.executable, "-m", "sweeps.jobs.store", str(tmp_path / "folder"), str(tmp_path / "file" / "below")]
    root = Path(store.__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
