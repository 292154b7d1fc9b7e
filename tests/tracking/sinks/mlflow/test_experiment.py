"""Reaching an experiment: where its files are, whose it is, and the error when it cannot be reached."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep
from tests.tracking.conftest import Runs
from tracking import show
from tracking.sink import SinkError
from tracking.sinks.mlflow import view
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.registry import settings

ROOT = Path(__file__).parents[4]


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
    assert sink.page == view.page()
    sink.open(make_sweep([make_result()], tmp_path))
    experiment = Runs(uri).experiment
    assert experiment.tags == {"mlflow.note.content": "mine", view.TAG: view.shared_view()}
    assert sink.page == view.page(experiment.experiment_id)


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


class _Answers(BaseHTTPRequestHandler):
    """A server that is no MLflow, or refuses: its path's first part says how."""

    def _answer(self) -> None:
        status = int(self.path.split("/")[1])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"/200/login?password=hush&{'x' * 500}")
        page = (
            "<!DOCTYPE html><html><head><style>p {color: red}</style></head><body><p>Please sign in</p></body></html>"
        )
        body = (
            page.encode()
            if status != 403
            else json.dumps({"message": "not yours", "error_code": "PERMISSION_DENIED"}).encode()
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "Please sign in"),
        (302, "Please sign in"),
        (401, "Please sign in"),
        (403, "not yours"),
        (404, "Please sign in"),
        (500, "the server fails"),
        (503, "the server fails"),
    ],
)
def test_a_server_that_is_no_mlflow_is_one_readable_sentence(
    status: int, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sink = MlflowSink(f"http://me:hush@127.0.0.1:{server.server_port}/{status}/")
        with pytest.raises(SinkError) as caught:
            sink.open(make_sweep([make_result()], tmp_path))
        server.shutdown()
    sentence = str(caught.value)
    assert "hush" not in sentence
    assert not [mark for mark in ("\n", "<", "{color", "xxxx") if mark in sentence], sentence
    assert words in sentence
    assert capfd.readouterr() == ("", "")


def test_blank_settings_of_the_environment_count_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for blank in ("", "  \n"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", blank)
        assert settings({"sinks": ["mlflow"], "uri": blank}) == {"mlflow": {"uri": uri, "experiment": "sweeps"}}
        assert show.main(["none"]) == 2
        assert f"nor is it in MLflow at {uri}" in capsys.readouterr().err
    assert settings({"sinks": ["mlflow"], "uri": " http://host:1/\n"})["mlflow"]["uri"] == "http://host:1/"
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(name, "nonsense://x")
    sweep = make_sweep([make_result()], tmp_path)
    MlflowSink(uri).open(sweep)
    assert len(Runs(uri).parents) == 1


def test_a_timeout_that_is_no_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    sink = MlflowSink("http://127.0.0.1:1")
    sink.limit(5)
    with pytest.raises(SinkError, match=r"expected MLFLOW_HTTP_REQUEST_TIMEOUT in seconds. Received: 'soon'"):
        sink.open(make_sweep([make_result()], tmp_path))
