"""`python tracking/sync.py` as users call it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.records import make_result, make_sweep, write_journal
from tests.tracking.conftest import Runs
from tracking import sync
from tracking.folder.journal import RESULTS, Journal
from tracking.record import Result

ROOT = Path(__file__).parents[2]


def planned(folder: Path, tracking: Mapping[str, Any], count: int = 3) -> list[Result]:
    results = [make_result(batch=batch) for batch in range(1, count + 1)]
    write_journal(make_sweep(results, folder, facts={"tracking": tracking}), results)
    return results


def test_four_at_once_give_one_run_a_trial(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    folder = tmp_path / "sweep"
    planned(folder, {"mlflow": {"uri": uri, "experiment": "sweeps"}, "csv": {}, "parquet": {}}, count=6)
    command = [sys.executable, str(ROOT / "tracking" / "sync.py"), str(folder)]
    running = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=200)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4, outputs
    sentence = f"6 results of 6 planned trials are in MLflow at {uri} and results.csv and results.parquet\n"
    assert outputs == [sentence] * 4
    runs = Runs(uri)
    assert sorted(runs.by_batch) == [1, 2, 3, 4, 5, 6]
    assert all(len(runs.history(run, "forward/step_s")) == 30 for run in runs.children)
    assert len(runs.history(runs.parent, "vgg16/cpu/forward/mean_s")) == 6
    assert {"results.csv", "plan.json"} <= set(runs.artifacts(runs.parent))
    assert (folder / "results.csv").read_text().count("\n") == 13
    assert (folder / "results.parquet").is_file()


def test_sweep_that_was_killed_is_reported_as_such_and_later_completed(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    results = planned(folder, {"mlflow": {"uri": uri, "experiment": "sweeps"}})
    whole = (folder / RESULTS).read_bytes()
    (folder / RESULTS).write_bytes(whole[:-100])
    assert sync.main([str(folder)]) == 0
    runs = Runs(uri)
    assert (sorted(runs.by_batch), runs.parent.info.status) == ([1, 2], "KILLED")
    with Journal(folder) as journal:
        journal.append(results[2])
    assert sync.main([str(folder)]) == 0
    runs = Runs(uri)
    assert (sorted(runs.by_batch), runs.parent.info.status) == ([1, 2, 3], "FINISHED")


def test_moved_folder_and_another_server(uri: str, tmp_path: Path) -> None:
    planned(tmp_path / "before", {"mlflow": {"uri": uri, "experiment": "sweeps"}, "csv": {}})
    shutil.move(tmp_path / "before", tmp_path / "after")
    other = f"sqlite:///{tmp_path}/other.db"
    assert sync.main([str(tmp_path / "after"), "--uri", other, "--experiment", "mine"]) == 0
    assert len(Runs(other, "mine").children) == 3
    assert (tmp_path / "after" / "results.csv").is_file()
    assert not (tmp_path / "before").exists()
    assert Runs(uri).experiment is None


def test_an_address_sends_a_sweep_to_mlflow_that_was_run_without(uri: str, tmp_path: Path) -> None:
    planned(tmp_path / "sweep", {"csv": {}})
    assert sync.main([str(tmp_path / "sweep"), "--uri", uri]) == 0
    assert len(Runs(uri).children) == 3
    assert (tmp_path / "sweep" / "results.csv").is_file()


def test_a_report_that_cannot_be_written_is_a_failure(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(tmp_path, {"mlflow": {"uri": uri}})
    (tmp_path / "report.html").mkdir()
    assert sync.main([str(tmp_path)]) == 1
    assert "the plots and the report could not be written: " in capsys.readouterr().err
    assert len(Runs(uri).children) == 3


def test_environment_fills_another_server_only_where_the_sweep_has_no_address(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    planned(tmp_path / "own", {"mlflow": {"uri": uri, "experiment": "sweeps"}})
    assert sync.main([str(tmp_path / "own")]) == 0
    assert len(Runs(uri).children) == 3
    planned(tmp_path / "tables", {"csv": {}})
    assert sync.main([str(tmp_path / "tables")]) == 0
    assert not (tmp_path / "other.db").exists()
    planned(tmp_path / "redacted", {"mlflow": {"uri": "postgresql://host/db?password=***", "experiment": "sweeps"}})
    assert sync.main([str(tmp_path / "redacted")]) == 0
    assert len(Runs(other).children) == 3
    planned(tmp_path / "without", {})
    assert sync.main([str(tmp_path / "without")]) == 0
    assert len(Runs(other).children) == 3, "the same sweep once more"


def test_password_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path, {"mlflow": {"uri": "http://***@127.0.0.1:1", "experiment": "sweeps"}})
    assert sync.main([str(tmp_path)]) == 2
    assert "kept without its password; give it with --uri or in the environment" in capsys.readouterr().err
    assert sync.main([str(tmp_path), "--uri", "http://me:hush@127.0.0.1:1"]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("MLflow at http://***@127.0.0.1:1 lacks 3 of 3 results: ")
    assert "hush" not in complaint


def test_sweep_without_sinks_needs_an_address(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path, {})
    assert sync.main([str(tmp_path)]) == 2
    assert "run without sinks (tracking=none); name a server with --uri" in capsys.readouterr().err
    assert sync.main([str(tmp_path), "--uri", uri]) == 0
    assert len(Runs(uri).children) == 3


def test_running_sweep_is_left_alone(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path, {"mlflow": {"uri": uri}})
    with Journal(tmp_path):
        assert sync.main([str(tmp_path)]) == 1
    assert "the sweep is still running, and sends its results itself" in capsys.readouterr().err
    assert Runs(uri).experiment is None


def test_folder_without_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"expected a sweep's folder with a plan.json. Received: {tmp_path}\n"
    assert not list(tmp_path.iterdir())


def test_plots_and_report_are_made_where_missing_or_old(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    results = planned(folder, {"mlflow": {"uri": uri}}, count=2)
    hosts = [replace(r, host={"hostname": f"node{i}"}) for i, r in enumerate(results)]
    with Journal(folder) as journal:
        journal.append(hosts[0])
    assert sync.main([str(folder)]) == 0
    page = folder / "report.html"
    first = page.read_text()
    assert "node0" in first
    assert (folder / "plots" / "time_per_batch_forward.png").stat().st_size > 5000
    made = page.stat().st_mtime_ns
    assert sync.main([str(folder)]) == 0
    assert page.stat().st_mtime_ns == made, "it was written again for nothing"
    with Journal(folder) as journal:
        journal.append(hosts[1])
    assert sync.main([str(folder)]) == 0
    assert "node0 and node1" in page.read_text()
    runs = Runs(uri)
    assert {"report.html", "results.csv", "plan.json"} <= set(runs.artifacts(runs.parent))
    assert "plots/time_per_batch_forward.png" in runs.artifacts(runs.parent, "plots")
    assert "node0 and node1" in runs.text(runs.parent, "report.html", tmp_path / "scratch")
    assert {run.data.tags["host"] for run in runs.children} == {"node0", "node1"}
