"""Reaching an experiment: where its files are, whose it is, and what is said when it cannot be reached."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tests.records import make_result, make_sweep
from tests.tracking.conftest import Runs
from tracking import mlflow_view
from tracking.mlflow_sink import MlflowSink
from tracking.sink import SinkError

ROOT = Path(__file__).parents[2]


def test_artifacts_lie_beside_the_database_wherever_the_sweep_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [make_result(batch=4)]
    (tmp_path / "home of it").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "home of it")
    sink = MlflowSink("sqlite:///mlflow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    sink.open(make_sweep(results, tmp_path / "sweep"))
    sink.write(results[0])
    assert sorted(path.name for path in (tmp_path / "home of it").iterdir()) == ["mlartifacts", "mlflow.db"]
    assert not list((tmp_path / "elsewhere").iterdir())
    assert list((tmp_path / "home of it").rglob("layers.json"))


def test_an_experiment_that_was_there_gets_the_view_and_keeps_its_own_words(uri: str, tmp_path: Path) -> None:
    client = Runs(uri).client
    client.create_experiment("sweeps", tags={"mlflow.note.content": "mine"})
    sink = MlflowSink(uri)
    assert sink.page == mlflow_view.page()
    sink.open(make_sweep([make_result()], tmp_path))
    experiment = Runs(uri).experiment
    assert experiment.tags == {"mlflow.note.content": "mine", mlflow_view.TAG: mlflow_view.VIEW}
    assert sink.page == mlflow_view.page(experiment.experiment_id)


def test_deleted_experiment_is_named(uri: str, tmp_path: Path) -> None:
    sweep = make_sweep([make_result()], tmp_path)
    MlflowSink(uri).open(sweep)
    runs = Runs(uri)
    runs.client.delete_experiment(runs.experiment.experiment_id)
    with pytest.raises(SinkError, match="the experiment 'sweeps' was deleted; restore it"):
        MlflowSink(uri).open(sweep)


@pytest.mark.parametrize(
    "uri",
    ["http://user:hush@127.0.0.1:1", "postgresql://user:hush@127.0.0.1:1/db", "nonsense://user:hush@host/x"],
)
def test_address_that_does_not_work_is_one_sentence_without_password(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MlflowSink(uri)
    with pytest.raises(SinkError) as caught:
        sink.open(make_sweep([make_result()], tmp_path))
    assert "\n" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value) or "nonsense" in str(caught.value)
    printed = "".join(traceback.format_exception(caught.value))
    assert "hush" not in f"{printed} {caplog.text} {sink}"
    assert caught.value.__cause__ is None


def test_importing_the_sink_imports_no_mlflow() -> None:
    heavy = ("mlflow", "matplotlib", "pandas", "sqlalchemy")
    code = f"import sys, tracking.sinks; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
