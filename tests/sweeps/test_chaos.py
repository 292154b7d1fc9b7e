"""Trials that fail in every way, under a driver that is killed twice, end as one result and one MLflow run each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, str(ROOT / "sweeps" / "run.py")]
TARGETS = {
    "null": "ok",
    "tests.models.segfaulting": "crashed",
    "tests.models.growing": "oom",
    "tests.models.hanging": "timeout",
    "tests.models.raising": "error",
    "tests.models.killing_its_worker": "crashed",
}
GRID = [
    *("-m", "model=tiny", "batch=1,2", "order=grid", "calibrate=false", "timeout_s=20", "device.cpus=1"),
    *("oom_ceiling=false", "device.memory_mb=900", "protocol=classic", "protocol.burn_in=1", "protocol.steps=3"),
    f"model._target_={','.join(TARGETS)}",
]
PLANNED = 2 * len(TARGETS)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a driver in `tmp_path`; what it leaves running there is killed at the end."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_", "PYTEST"))}
    yield kept | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    for process in running_in(tmp_path):
        process.kill()


def running_in(folder: Path) -> list[psutil.Process]:
    """The driver in this folder and everything that it started: fork server, trials, Ray."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd().startswith(str(folder)):
                found.append(process)
    return found


def left_in(folder: Path) -> list[str]:
    """What runs there and does not end by itself."""
    psutil.wait_procs(running_in(folder), timeout=60)
    return [str(process) for process in running_in(folder)]


def abandoned_memory() -> set[str]:
    """Files by which Ray (plasma) and Python (psm_, sem.) share memory and that no process on this machine does use."""
    names = ("plasma", "ray", "psm_", "sem.")
    found = {str(path) for path in Path("/dev/shm").iterdir() if path.name.startswith(names)}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped = maps.read_text(errors="replace")
            found = {path for path in found if path not in mapped}
    return found


def ray_sessions() -> set[str]:
    """Folders that Ray keeps sockets and logs of a session in."""
    return {path.name for path in Path(tempfile.gettempdir(), "ray").glob("session_2*")}


def journal(folder: Path) -> list[dict[str, object]]:
    lines = [path.read_text() for path in folder.glob("multirun/*/*/results.jsonl")]
    return [json.loads(line) for text in lines for line in text.splitlines(keepends=True) if line.endswith("\n")]


def kill_after(results: int, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a sweep, and kill its driver when that many results are in the journal and the next trials run."""
    with (folder / "driver.txt").open("ab") as output:
        driver = subprocess.Popen([*COMMAND, *arguments], cwd=folder, env=environment, stdout=output, stderr=output)
    while len(journal(folder)) < results:
        assert driver.poll() is None, (folder / "driver.txt").read_text()
        time.sleep(0.05)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL


@pytest.mark.timeout(900)
def test_every_trial_has_one_result_whatever_breaks(tmp_path: Path, environment: dict[str, str]) -> None:
    memory, sessions = abandoned_memory(), ray_sessions()
    kill_after(3, GRID, tmp_path, environment)
    assert left_in(tmp_path) == []
    kill_after(6, ["resume=latest", "calibrate=false"], tmp_path, environment)
    assert left_in(tmp_path) == []
    before = journal(tmp_path)
    assert 6 <= len(before) < PLANNED
    done = subprocess.run(
        [*COMMAND, "resume=latest", "calibrate=false"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert left_in(tmp_path) == []
    assert abandoned_memory() <= memory
    assert ray_sessions() <= sessions

    lines = journal(tmp_path)
    assert lines[: len(before)] == before
    assert len({str(line["trial_id"]) for line in lines}) == len(lines) == PLANNED
    for line in lines:
        trial = line["trial"]
        assert isinstance(trial, dict)
        assert line["status"] == TARGETS[trial["target"] or "null"], line["error"]
    assert Counter(str(line["status"]) for line in lines) == {"ok": 2, "crashed": 4, "oom": 2, "timeout": 2, "error": 2}
    check_mlflow(tmp_path, {str(line["trial_id"]): str(line["status"]) for line in lines})


def check_mlflow(folder: Path, statuses: dict[str, str]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'sweeps'")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1 == len(statuses)
    assert {run.data.tags["trial_id"]: run.data.tags["status"] for run in children} == statuses
    assert not [run for run in runs if run.info.status == "RUNNING"]
