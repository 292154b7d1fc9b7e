from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps import resume
from sweeps.errors import UsageError
from tests.records import make_result, make_sweep
from tracking.journal import Journal
from tracking.record import Sweep


def planned(folder: Path, sweep_id: str, age_s: float) -> Sweep:
    sweep = replace(make_sweep([make_result()], folder), sweep_id=sweep_id)
    with Journal(folder) as journal:
        journal.write_plan(sweep)
    modified = (folder / "plan.json").stat().st_mtime - age_s
    os.utime(folder / "plan.json", (modified, modified))
    return sweep


def test_a_sweep_is_found_by_folder_by_id_and_as_the_latest(tmp_path: Path) -> None:
    old = planned(tmp_path / "multirun" / "2026-01-01" / "12-00-00", "old", 100)
    new = planned(tmp_path / "outputs" / "2026-01-02" / "12-00-00", "new", 0)
    assert resume.find("latest", tmp_path) == new
    assert resume.find("old", tmp_path) == old
    assert resume.find("multirun/2026-01-01/12-00-00", tmp_path) == old
    assert resume.find(new.folder, tmp_path) == new
    with pytest.raises(UsageError, match=r"resume=older: expected a sweep's folder, its id or `latest`"):
        resume.find("older", tmp_path)


def test_a_sweep_knows_its_objective(tmp_path: Path) -> None:
    assert resume.new_sweep([], tmp_path, "local", {}, "val/loss").facts["objective"] == "val/loss"
    assert "objective" not in resume.new_sweep([], tmp_path, "local", {}).facts


def test_a_sweep_that_was_moved_goes_on_where_it_is(tmp_path: Path) -> None:
    planned(tmp_path / "here", "moved", 0)
    (tmp_path / "here").rename(tmp_path / "there")
    assert resume.find("there", tmp_path).folder == str(tmp_path / "there")


def test_only_an_empty_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    empty, full = tmp_path / "outputs" / "day" / "time", tmp_path / "outputs" / "other" / "time"
    for folder in (empty, full):
        folder.mkdir(parents=True)
    (full / "plan.json").touch()
    resume.remove_if_empty(empty)
    resume.remove_if_empty(full)
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["other"]
    assert (full / "plan.json").is_file()
    (full / "plan.json").unlink()
    resume.remove_if_empty(full)
    assert list(tmp_path.iterdir()) == []
