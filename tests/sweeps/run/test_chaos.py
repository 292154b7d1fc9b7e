"""Trials that fail in every way, while everything that runs them is killed, end as one result and one MLflow run each.

`CHAOS_ROUNDS=50` has the random test kill so often; `CHAOS_SEED` repeats a run's choices, which it prints.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from sweeps.process import temporary
from tests.support.sweep_command import COMMAND, ROOT, left_in, running_in, terminal_environment

TARGETS = {
    "null": "ok",
    "tests.support.models.failing.segfaulting": "crashed",
    "tests.support.models.failing.growing": "oom",
    "tests.support.models.failing.hanging": "timeout",
    "tests.support.models.failing.raising": "error",
    "tests.support.models.failing.killing_its_worker": "crashed",
}
VICTIMS = ("driver", "raylet", "gcs_server", "guardian", "fork server")
SHORT = {
    "null": "ok",
    "tests.support.models.failing.segfaulting": "crashed",
    "tests.support.models.failing.raising": "error",
}
OPTIONS = ("calibrate=false", "retries=50")
GRID = [
    *("-m", "model=tiny", "batch=1,2", "order=grid", "calibrate=false", "timeout_s=20", "device.cpus=1"),
    *("oom_ceiling=false", "device.memory_mb=900", "protocol=classic", "protocol.burn_in=1", "protocol.steps=3"),
    f"model._target_={','.join(TARGETS)}",
]
PLANNED = 2 * len(TARGETS)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a driver in `tmp_path`; what it leaves running there is killed at the end."""
    yield terminal_environment() | {"PYTHONPATH": str(ROOT)}
    for process in running_in(tmp_path):
        process.kill()


def abandoned_memory() -> set[str]:
    """Files by which Ray (plasma) and Python (psm_, sem.) share memory and that no process on this machine does use."""
    names = ("plasma", "ray", "psm_", "sem.")
    found = {str(path) for path in Path("/dev/shm").iterdir() if path.name.startswith(names)}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped = maps.read_text(errors="replace")
            found = {path for path in found if path not in mapped}
    return found


def ray_folders() -> set[str]:
    """Folders of sockets and logs of Rays that sweeps have started."""
    return {path.name for path in temporary.base().glob("ray-*")}


def kill(victim: str, folder: Path) -> bool:
    """Kill that part of the sweep in this folder; whether it was there."""
    for process in running_in(folder):
        with contextlib.suppress(psutil.Error):
            command, parent = " ".join(process.cmdline()), process.parent()
            by_driver = parent is not None and "sweeps/run.py" in " ".join(parent.cmdline())
            roles = {
                "driver": "sweeps/run.py" in command,
                "guardian": by_driver and "guardian.py" in command,
                "fork server": by_driver and "sweeps.worker.forkserver" in command,
            }
            if roles.get(victim, process.name() == victim):
                process.kill()
                return True
    return False


def journal(folder: Path) -> list[dict[str, object]]:
    lines = [path.read_text() for path in folder.glob("multirun/*/*/results.jsonl")]
    return [json.loads(line) for text in lines for line in text.splitlines(keepends=True) if line.endswith("\n")]


def start(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "driver.txt").open("ab") as output:
        return subprocess.Popen([*COMMAND, *arguments], cwd=folder, env=environment, stdout=output, stderr=output)


def wait_for(results: int, driver: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until so many results are in the journal, and the next trials run."""
    while len(journal(folder)) < results:
        assert driver.poll() is None, (folder / "driver.txt").read_text()
        time.sleep(0.05)


def kill_after(
    results: int, victims: Sequence[str], arguments: Sequence[str], folder: Path, environment: dict[str, str]
) -> None:
    """Run a sweep, and kill these parts of it, the driver last, when that many results are there."""
    driver = start(arguments, folder, environment)
    wait_for(results, driver, folder)
    assert all(kill(victim, folder) for victim in victims)
    assert driver.wait() == -signal.SIGKILL


@pytest.mark.timeout(900)
def test_every_trial_has_one_result_whatever_breaks(tmp_path: Path, environment: dict[str, str]) -> None:
    memory, folders = abandoned_memory(), ray_folders()
    kill_after(3, ["driver"], GRID, tmp_path, environment)
    assert left_in(tmp_path) == []
    assert ray_folders() <= folders
    kill_after(6, ["guardian", "driver"], ["resume=latest", "calibrate=false"], tmp_path, environment)
    before = journal(tmp_path)
    assert 6 <= len(before) < PLANNED
    # Both kills may hit the same trial, which lasts as long as its time limit.
    driver = start(["resume=latest", "calibrate=false", "retries=2"], tmp_path, environment)
    wait_for(7, driver, tmp_path)
    assert kill("raylet", tmp_path)
    wait_for(9, driver, tmp_path)
    assert kill("gcs_server", tmp_path)
    assert driver.wait() == 1, (tmp_path / "driver.txt").read_text()
    assert left_in(tmp_path) == []
    assert abandoned_memory() <= memory
    assert ray_folders() <= folders

    lines = journal(tmp_path)
    assert lines[: len(before)] == before
    assert len({str(line["trial_id"]) for line in lines}) == len(lines) == PLANNED
    for line in lines:
        trial = line["trial"]
        assert isinstance(trial, dict)
        assert line["status"] == TARGETS[trial["target"] or "null"], line["error"]
    assert Counter(str(line["status"]) for line in lines) == {"ok": 2, "crashed": 4, "oom": 2, "timeout": 2, "error": 2}
    check_mlflow(tmp_path, {str(line["trial_id"]): str(line["status"]) for line in lines})


@pytest.mark.timeout(0)
def test_whatever_is_killed_at_whatever_moment(tmp_path: Path, environment: dict[str, str]) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "11"))
    sys.stdout.write(f"CHAOS_SEED={seed}\n")
    choice, left = random.Random(seed), int(os.environ.get("CHAOS_ROUNDS", "1"))
    memory, folders = abandoned_memory(), ray_folders()
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        left = one_sweep(choice, left, folder, environment)
        assert left_in(folder) == []
        assert abandoned_memory() <= memory
        assert ray_folders() <= folders
        if not left:
            break


def one_sweep(choice: random.Random, kills: int, folder: Path, environment: dict[str, str]) -> int:
    """A sweep under which parts are killed until there are no `kills` left or nothing to kill; gives those left."""
    grid = ["-m", "model=tiny", "batch=1,2,3", "order=grid", "device.cpus=1", *GRID[-4:-1], *OPTIONS]
    grid.append(f"model._target_={','.join(SHORT)}")
    planned = 3 * len(SHORT)

    def go_on() -> subprocess.Popen[bytes]:
        begun = list(folder.glob("multirun/*/*/plan.json"))
        return start(["resume=latest", *OPTIONS] if begun else grid, folder, environment)

    driver = go_on()
    while kills and driver.poll() is None:
        time.sleep(choice.uniform(0.5, 12.0))
        victim = choice.choice(VICTIMS)
        if kill(victim, folder):
            kills -= 1
            sys.stdout.write(f"killed the {victim} with {len(journal(folder))} results\n")
        if victim == "driver":
            driver.wait()
            driver = go_on()
    driver.wait()
    assert go_on().wait() == 1, (folder / "driver.txt").read_text()
    lines = journal(folder)
    assert len({str(line["trial_id"]) for line in lines}) == len(lines) == planned
    for line in lines:
        trial = line["trial"]
        assert isinstance(trial, dict)
        assert line["status"] == SHORT[trial["target"] or "null"], line["error"]
    check_mlflow(folder, {str(line["trial_id"]): str(line["status"]) for line in lines})
    return kills


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
