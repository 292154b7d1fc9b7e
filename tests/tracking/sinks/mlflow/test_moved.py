"""Projects and sweep folders that were moved or copied: where their results go then, and where nothing is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sweeps.errors import UsageError
from sweeps.identity import remembered, resume
from sweeps.typed.arguments import Arguments
from tests.support.records import make_result, make_sweep
from tests.tracking.conftest import Runs
from tracking import sync
from tracking.folder.journal import Journal
from tracking.record import Result
from tracking.sinks.mlflow.moved import follow

NO_WORDS = Arguments(program="sweeps/run.py", words=())
COMPOSED = {"sinks": ["mlflow", "csv"], "uri": "sqlite:///mlflow.db", "experiment": "sweeps"}


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    """A project with a sweep whose first result of two is in MLflow."""
    place = tmp_path / "a %41 project"
    place.mkdir()
    shutil.copyfile(empty_database, place / "mlflow.db")
    results = [make_result(batch=batch, steps=3) for batch in (1, 2)]
    uri = f"sqlite:///{str(place).replace('%', '%25')}/mlflow.db"
    facts = {"tracking": {"mlflow": {"uri": uri, "experiment": "sweeps"}}}
    with Journal(place / "multirun" / "sweep") as journal:
        journal.write_plan(make_sweep(results, place / "multirun" / "sweep", facts=facts))
        journal.append(results[0])
    assert sync.main([str(place / "multirun" / "sweep")]) == 0
    # MLflow's client remembers where a run's files were; a command that comes later does not.
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    _artifact_repos_cache.clear()
    return place


def go_on(folder: Path) -> Result:
    result = make_result(batch=2, steps=3)
    with Journal(folder) as journal:
        journal.append(result)
    return result


def runs(place: Path) -> Runs:
    copy = place.parent / f"{place.name.replace('%', '_')}.db"  # for a client that does not know of such names
    shutil.copyfile(place / "mlflow.db", copy)
    return Runs(f"sqlite:///{copy}")


def files(place: Path) -> int:
    return len(list(place.glob("mlartifacts/sweeps/*/artifacts/layers.json")))


def test_a_moved_project_takes_its_database_and_files_along(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moved = project.rename(tmp_path / "b")
    folder = moved / "multirun" / "sweep"
    go_on(folder)
    monkeypatch.chdir(moved)
    assert (
        remembered.tracking(follow(*resume.find("latest", moved)), COMPOSED, NO_WORDS)["uri"]
        == f"sqlite:///{moved}/mlflow.db"
    )
    caplog.clear()
    assert sync.main([str(folder)]) == 0
    assert not project.exists()
    assert (sorted(runs(moved).by_batch), files(moved)) == ([1, 2], 2)
    places = {run.info.artifact_uri.rpartition("/mlartifacts/")[0] for run in runs(moved).children}
    assert places == {moved.as_uri()}
    assert [record.message for record in caplog.records] == [
        f"the sweep's folder used to be {project}/multirun/sweep: its MLflow database is now {moved}/mlflow.db, "
        f"and not {project}/mlflow.db",
        f"MLflow's database {moved}/mlflow.db was moved: the files of its runs are in {moved}/mlartifacts now",
    ]


def test_a_moved_sweep_folder_goes_on_where_it_was(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b" / "sweep"
    folder.parent.mkdir()
    (project / "multirun" / "sweep").rename(folder)
    go_on(folder)
    assert sync.main([str(folder)]) == 0
    assert (sorted(runs(project).by_batch), files(project)) == ([1, 2], 2)
    assert [path.name for path in folder.parent.iterdir()] == ["sweep"]


def test_a_copied_project_is_one_of_its_own(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "b"
    shutil.copytree(project, copy)
    go_on(copy / "multirun" / "sweep")
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert sync.main([str(copy / "multirun" / "sweep")]) == 0
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before
    assert (sorted(runs(copy).by_batch), files(copy)) == ([1, 2], 2)


def test_another_projects_database_does_not_take_a_sweep_from_its_own(project: Path, tmp_path: Path, uri: str) -> None:
    """A sweep's folder that ends up in another project still belongs to its database, which still exists."""
    assert (tmp_path / "mlflow.db").is_file()
    folder = tmp_path / "multirun" / "sweep"
    shutil.move(project / "multirun" / "sweep", folder)
    go_on(folder)
    assert sync.main([str(folder)]) == 0
    assert sorted(runs(project).by_batch) == [1, 2]
    assert Runs(uri).experiment is None


def test_a_database_that_is_gone_is_demanded_and_not_made_again(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "b" / "sweep"
    folder.parent.mkdir()
    (project / "multirun" / "sweep").rename(folder)
    shutil.rmtree(project)
    go_on(folder)
    assert sync.main([str(folder)]) == 2
    sentence = f"the plan's MLflow database {project}/mlflow.db is in a folder that no longer exists"
    assert capsys.readouterr().err == f"{sentence}, and none is beside the sweep; name one with --uri\n"
    with pytest.raises(UsageError, match=r"name one with tracking.uri=sqlite:////PATH/mlflow.db"):
        remembered.tracking(follow(*resume.find(str(folder), tmp_path)), COMPOSED, NO_WORDS)
    assert (
        remembered.tracking(
            follow(*resume.find(str(folder), tmp_path)), COMPOSED, NO_WORDS.with_words(["tracking.uri=x"])
        )["uri"]
        == COMPOSED["uri"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    uri = f"sqlite:///{tmp_path}/new.db"
    assert sync.main([str(folder), "--uri", uri]) == 0
    assert sorted(Runs(uri).by_batch) == [1, 2]
    assert not project.exists()
