"""The MLflow sink straight on PostgreSQL, as a group shares it without an MLflow server."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records import make_result, make_sweep
from tests.tracking.conftest import Runs
from tests.tracking.servers import Postgres
from tracking.journal import Journal
from tracking.record import Result
from tracking.redact import redact
from tracking.sinks import storable

ROOT = Path(__file__).parents[2]
PROGRAMS = Postgres.programs()

pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL under /usr/lib/postgresql")


@pytest.fixture
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


def sync(folder: Path, uri: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "tracking" / "sync.py"), str(folder), "--uri", uri]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def planned(folder: Path, sweep_id: str, uri: str) -> list[Result]:
    results = [make_result(batch=1, sweep_id=sweep_id), make_result(batch=2, sweep_id=sweep_id, status="oom")]
    with Journal(folder) as journal:
        settings = {"mlflow": {"uri": uri, "experiment": "shared"}}
        journal.write_plan(make_sweep(results, folder, facts={"tracking": storable(settings)}))
        for result in results:
            journal.append(result)
    return results


def test_two_sweeps_share_a_database(postgres: Postgres, tmp_path: Path) -> None:
    kept = [planned(tmp_path / name, name, postgres.uri) for name in ("one", "two")]
    outputs = []
    # The first makes MLflow's tables; then two write at once.
    for names in (["one"], ["one", "two"]):
        running = [sync(tmp_path / name, postgres.uri, tmp_path) for name in names]
        outputs += [process.communicate(timeout=200)[0] for process in running]
        assert [process.returncode for process in running] == [0] * len(running), outputs
    sentence = f"2 results of 2 planned trials are in MLflow at {redact(postgres.uri)}\n"
    assert outputs == [sentence] * 3

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
