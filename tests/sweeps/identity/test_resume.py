from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import UsageError
from sweeps.identity import remembered, resume
from sweeps.typed.arguments import Arguments
from tests.support.records import make_result, make_sweep, write_journal
from tracking.record import Sweep


def typed(*words: str) -> Arguments:
    return Arguments(program="sweeps/run.py", words=words)


def planned(folder: Path, sweep_id: str, age_s: float) -> Sweep:
    sweep = replace(make_sweep([make_result()], folder), sweep_id=sweep_id)
    write_journal(sweep)
    modified = (folder / "plan.json").stat().st_mtime - age_s
    os.utime(folder / "plan.json", (modified, modified))
    return sweep


def found(name: str, cwd: Path) -> Sweep:
    plan, folder = resume.find(name, cwd)
    return replace(plan, folder=str(folder))


def test_a_sweep_is_found_by_folder_by_id_and_as_the_latest(tmp_path: Path) -> None:
    old = planned(tmp_path / "multirun" / "2026-01-01" / "12-00-00", "old", 100)
    new = planned(tmp_path / "outputs" / "2026-01-02" / "12-00-00", "new", 0)
    assert found("latest", tmp_path) == new
    assert found("old", tmp_path) == old
    assert found("multirun/2026-01-01/12-00-00", tmp_path) == old
    assert found(new.folder, tmp_path) == new
    with pytest.raises(UsageError, match=r"resume=older: expected a sweep's folder, .*; did you mean 'old'\?"):
        resume.find("older", tmp_path)


def test_a_damaged_plan_of_another_sweep_is_no_hindrance(tmp_path: Path) -> None:
    wanted = planned(tmp_path / "multirun" / "2026-01-01" / "12-00-00", "wanted", 100)
    damaged = tmp_path / "multirun" / "2026-01-01" / "11-00-00"
    damaged.mkdir()
    (damaged / "plan.json").write_text("{")
    assert found("wanted", tmp_path) == wanted
    with pytest.raises(UsageError, match="11-00-00: "):
        resume.find(str(damaged), tmp_path)


def test_a_sweep_knows_its_objective(tmp_path: Path) -> None:
    assert resume.new_sweep([], tmp_path, {}, {}, command="", objective="val/loss").facts["objective"] == "val/loss"
    assert "objective" not in resume.new_sweep([], tmp_path, {}, {}, command="").facts


def test_a_sweep_that_was_moved_goes_on_where_it_is(tmp_path: Path) -> None:
    planned(tmp_path / "here", "moved", 0)
    (tmp_path / "here").rename(tmp_path / "there")
    assert found("there", tmp_path).folder == str(tmp_path / "there")


SERVER = {"uri": "http://a", "experiment": "mine"}
COMPOSED = {"sinks": ["mlflow", "csv"], "uri": "sqlite:///mlflow.db", "experiment": "sweeps"}


@pytest.mark.parametrize(
    ("stored", "arguments", "wanted"),
    [
        ({"mlflow": SERVER, "csv": {}}, ["resume=latest"], {"sinks": ["mlflow", "csv"], **SERVER}),
        ({"mlflow": SERVER}, ["+trackings.uri=x", "batch=1"], {"sinks": ["mlflow"], **SERVER}),
        ({"mlflow": SERVER}, ["tracking.uri=http://b"], COMPOSED | {"sinks": ["mlflow"], "experiment": "mine"}),
        (
            {"mlflow": SERVER},
            ["++tracking.experiment=x"],
            {"sinks": ["mlflow"], "uri": "http://a", "experiment": "sweeps"},
        ),
        ({"mlflow": SERVER}, ["tracking=mlflow"], COMPOSED),
        ({"csv": {}}, [], COMPOSED | {"sinks": ["csv"]}),
        ({}, [], COMPOSED | {"sinks": []}),
        (None, [], COMPOSED),
    ],
)
def test_a_sweep_goes_on_with_its_own_tracking(
    stored: dict[str, Any] | None, arguments: list[str], wanted: dict[str, Any]
) -> None:
    sweep = make_sweep([make_result()], facts={} if stored is None else {"tracking": stored})
    assert remembered.tracking(sweep, COMPOSED, typed(*arguments)) == wanted


def test_an_address_without_its_password_has_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"tracking": {"mlflow": {"uri": "http://***@a", "experiment": "mine"}}}
    sweep = make_sweep([make_result()], facts=facts)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        UsageError, match=r"tracking.uri: expected the sweep's address .* the plan keeps http://\*\*\*@a"
    ):
        remembered.tracking(sweep, COMPOSED, typed())
    without = remembered.tracking(sweep, COMPOSED | {"sinks": ["csv"]}, typed("tracking.sinks=[csv]"))
    assert without["sinks"] == ["csv"]
    assert remembered.tracking(sweep, COMPOSED, typed("tracking.uri=x"))["uri"] == COMPOSED["uri"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@a")
    assert remembered.tracking(sweep, COMPOSED, typed()) == {
        "sinks": ["mlflow"],
        "uri": "http://me:hush@a",
        "experiment": "mine",
    }


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
