"""MLflow on PostgreSQL, behind a server and straight, as a group shares it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep
from tests.support.sweep_command import plain_environment
from tests.support.tracking_servers import MlflowServer, Postgres
from tests.tracking.conftest import Runs
from tracking import sync
from tracking.folder.journal import Journal
from tracking.record import Result
from tracking.sink import SinkError
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.registry import storable
from tracking.text.redact import redact

ROOT = Path(__file__).parents[4]
PROGRAMS = Postgres.programs()
GRID = "-m model=tiny batch=1,2 cluster=inline calibrate=false protocol=classic protocol.burn_in=1 protocol.steps=2"

pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL under /usr/lib/postgresql")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    assert PROGRAMS is not None
    # Not pytest's own temporary folder, which the user postgres may not enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        running = Postgres(Path(folder), PROGRAMS)
        try:
            running.start()
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server, which makes MLflow's tables."""
    running = MlflowServer(tmp_path_factory.mktemp("server"), store=postgres.uri)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def sweep(folder: Path, uri: str) -> subprocess.Popen[str]:
    folder.mkdir()
    command = [sys.executable, str(ROOT / "sweeps" / "run.py"), *GRID.split(), f"tracking.uri={uri}"]
    kept = plain_environment()
    return subprocess.Popen(command, cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_sweeps_at_once_into_a_server_on_it(server: MlflowServer, tmp_path: Path) -> None:
    running = [sweep(tmp_path / name, server.uri) for name in ("one", "two")]
    outputs = [process.communicate(timeout=200)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert not [text for text in outputs if "warning" in text], outputs
    runs = Runs(server.uri)
    plans = [json.loads(path.read_text()) for path in tmp_path.glob("*/multirun/*/*/plan.json")]
    assert {run.data.tags["sweep_id"] for run in runs.parents} == {plan["sweep_id"] for plan in plans}
    assert (len(plans), len(runs.parents), len(runs.children)) == (2, 2, 4)
    for parent in runs.parents:
        children = [run for run in runs.children if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
        assert {run.data.tags["sweep_id"] for run in children} == {parent.data.tags["sweep_id"]}
        assert sorted(run.data.params["batch"] for run in children) == ["1", "2"]
        assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
        assert {"plan.json", "report.html", "results.csv"} <= set(runs.artifacts(parent))
    assert not list(tmp_path.rglob("mlflow.db"))


def planned(folder: Path, sweep_id: str, uri: str) -> list[Result]:
    results = [make_result(batch=1, sweep_id=sweep_id), make_result(batch=2, sweep_id=sweep_id, status="oom")]
    with Journal(folder) as journal:
        settings = {"mlflow": {"uri": uri, "experiment": "shared"}}
        journal.write_plan(make_sweep(results, folder, facts={"tracking": storable(settings)}))
        for result in results:
            journal.append(result)
    return results


@pytest.mark.usefixtures("server")
def test_two_sweeps_straight_into_it(
    postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = [planned(tmp_path / name, name, postgres.uri) for name in ("one", "two")]
    for name in ("one", "two", "one"):
        assert sync.main([str(tmp_path / name), "--uri", postgres.uri]) == 0
        sentence = f"2 results of 2 planned trials are in MLflow at {redact(postgres.uri)}\n"
        assert capsys.readouterr() == (sentence, "")

    runs = Runs(postgres.uri, "shared")
    assert (len(runs.parents), len(runs.children)) == (2, 4)
    for results in kept:
        for result in results:
            (child,) = [run for run in runs.children if run.data.tags["sweep_id"] == result.sweep_id
                        and run.data.tags["trial_id"] == result.trial_id]  # fmt: skip
            assert child.info.status == ("FINISHED" if result.ok else "FAILED")
            if result.ok:
                steps = list(enumerate(result.passes["forward"].step_s))
                assert runs.history(child, "forward/step_s") == steps
    assert (tmp_path / "mlartifacts" / "shared").is_dir()
    for plan in tmp_path.glob("*/plan.json"):
        assert "hush" not in plan.read_text()


def test_a_database_that_mlflow_cannot_use_is_one_sentence(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Other tables, an older schema, no rights, no such database: at once, untouched, and without a password."""
    import psycopg2

    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))

    def run(database: str, *statements: str) -> list[tuple[object, ...]]:
        connection = psycopg2.connect(
            host="127.0.0.1", port=postgres.port, user="tester", password="hush", dbname=database
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def complaint(database: str, user: str = "tester:hush") -> str:
        address = f"postgresql+psycopg2://{user}@127.0.0.1:{postgres.port}/{database}"
        with pytest.raises(SinkError) as caught:
            MlflowSink(address).open(make_sweep([make_result()], tmp_path))
        assert "\n" not in str(caught.value)
        assert "hush" not in str(caught.value)
        return str(caught.value)

    run("postgres", "CREATE DATABASE shoes", "CREATE USER stranger PASSWORD 'hush'", "CREATE DATABASE older")
    run("shoes", "CREATE TABLE shoes (name TEXT)", "CREATE TABLE alembic_version (version_num TEXT)")
    run("shoes", "INSERT INTO alembic_version VALUES ('1')")
    assert "Received: one with other tables (shoes), which was left as it is" in complaint("shoes")
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
    assert run("shoes", tables) == [("alembic_version",), ("shoes",)]
    assert 'database "nowhere" does not exist' in complaint("nowhere")
    assert "password authentication failed" in complaint("shoes", "tester:hushh")

    fresh = f"postgresql+psycopg2://tester:hush@127.0.0.1:{postgres.port}/older"
    MlflowSink(fresh).open(make_sweep([make_result()], tmp_path))
    run("older", "UPDATE alembic_version SET version_num = '867495a8f9d4'", "DROP TABLE job_locks")
    assert "an older MLflow made it" in (words := complaint("older"))
    assert "mlflow db upgrade 'postgresql+psycopg2://***@127.0.0.1" in words
    assert run("older", "SELECT version_num FROM alembic_version") == [("867495a8f9d4",)]
    run("postgres", "CREATE DATABASE closed")
    assert "permission denied" in complaint("closed", "stranger:hush")
    assert "Traceback" not in "".join(capfd.readouterr())
