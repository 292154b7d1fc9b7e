from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep, write_journal
from tracking.folder.folders import find, sweep_folders
from tracking.folder.journal import JournalError


def planned(folder: Path, sweep_id: str) -> Path:
    write_journal(replace(make_sweep([make_result()], folder), sweep_id=sweep_id))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    older = planned(tmp_path / "outputs" / "2025-10-09" / "09-00-00", "20251009-090000-bbbbbb")
    planned(tmp_path / "multirun" / "mine", "20251009-080000-aaaaaa")
    os.utime(older / "plan.json", (1, 1))
    return tmp_path


def test_sweeps_are_found_however_deep_and_not_within_another(home: Path) -> None:
    planned(home / "multirun" / "mine" / "trials" / "copied", "inner")
    planned(home / "elsewhere", "elsewhere")
    found = [str(folder.relative_to(home)) for folder in sweep_folders(home)]
    assert found == ["multirun/mine", "outputs/2025-10-09/09-00-00"]


@pytest.mark.parametrize(
    "name", ["multirun/mine", "20251009-080000-aaaaaa", "20251009-08", "latest", pytest.param(None, id="absolute")]
)
def test_a_sweep_by_path_by_id_by_its_beginning_and_the_latest(name: str | None, home: Path) -> None:
    assert find(name or str(home / "multirun" / "mine"), home) == home / "multirun" / "mine"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("20251009", r"expected one sweep\. Received: '20251009', which begins 20251009-080000-a+, 20251009-090000-b+"),
        ("20251009-080000-aaaaab", r"Received: '20251009-080000-aaaaab'; did you mean '20251009-080000-aaaaaa'\?"),
        ("lastest", r"its id under multirun or outputs, or 'latest'\. Received: 'lastest'"),
    ],
)
def test_a_name_that_means_none_or_several(name: str, sentence: str, home: Path) -> None:
    with pytest.raises(JournalError, match=sentence):
        find(name, home)


def test_where_there_are_no_sweeps(tmp_path: Path) -> None:
    assert list(sweep_folders(tmp_path)) == []
    with pytest.raises(JournalError, match="Received: 'latest'"):
        find("latest", tmp_path)
