"""The files of a sweep and its trials as artifacts of their runs."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep
from tests.support.tracking_servers import MlflowServer
from tests.tracking.conftest import Runs, record


def test_bare_mlflow_ui_shows_runs_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [make_result(batch=4)]
    monkeypatch.chdir(tmp_path)
    record("sqlite:///mlflow.db", make_sweep(results, tmp_path / "sweep"), results)
    user_interface = MlflowServer(tmp_path, bare=True)
    try:
        user_interface.start()
        runs = Runs(user_interface.uri)
        files = [(runs.by_batch[4], "layers.json"), (runs.by_batch[4], "plots/steps_forward.png")]
        for run, path in [*files, (runs.parent, "results.csv")]:
            # The address from which the page itself takes a file that it shows.
            address = f"{user_interface.uri}/get-artifact?path={path}&run_uuid={run.info.run_id}"
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert len(answer.read()) > 100
    finally:
        user_interface.stop()


def test_a_trials_own_files_are_its_artifacts(uri: str, tmp_path: Path) -> None:
    result = make_result(profile=True)
    place = tmp_path / "trials" / result.trial_id / "files" / "profile" / "forward"
    place.mkdir(parents=True)
    (place / "top_ops.json").write_text("{}")
    record(uri, make_sweep([result], tmp_path), [result])
    runs = Runs(uri)
    (child,) = runs.children
    assert runs.artifacts(child, "profile/forward") == ["profile/forward/top_ops.json"]
    assert "profile" not in child.data.params
