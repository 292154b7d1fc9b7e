"""The command line, as a user runs it: real Hydra, Ray, TensorFlow and MLflow in a folder of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.sweep_command import COMMAND, QUICK, journal, left_in, only_sweep, run, terminal_environment


def test_a_dry_run_prints_what_would_run_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "model=tiny,vgg16", "batch=1,100000", "cluster=inline", "dry_run=true", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vgg16 b=100000" in done.stdout
    assert "Nothing was run." in done.stdout
    assert "vgg16 at batch 100000 on cpu will take about" in done.stderr
    assert list(tmp_path.rglob("*.*")) == []


def test_a_sweep_over_ray_with_a_trial_that_fails(tmp_path: Path) -> None:
    for name in ("queue", "random", "statistics"):  # the user's, and neither Ray's nor TensorFlow's to import
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('somebody else has imported this')\n")
    done = run(
        tmp_path, "-m", "model=tiny", "batch=1,2", "model._target_=null,tests.support.models.failing.raising", *QUICK
    )
    assert done.returncode == 1, done.stdout + done.stderr
    sweep = only_sweep(tmp_path)
    lines = journal(sweep)
    assert sorted((line["trial"]["model"], line["trial"]["batch"], line["status"]) for line in lines) == [
        ("raising", 1, "error"),
        ("raising", 2, "error"),
        ("tiny", 1, "ok"),
        ("tiny", 2, "ok"),
    ]
    for line in lines:
        assert (sweep / "trials" / line["trial_id"] / "log.txt").is_file()
        if line["status"] == "error":
            assert "a bad one" in line["error"]["message"]
    assert "ValueError: expected a good day" in done.stdout
    assert "Compare  mlflow ui" in done.stdout
    for name in ("results.csv", "report.html", "plots/time_per_batch_forward.png", "plots/images_per_s_forward.png"):
        assert (sweep / name).stat().st_size > 0, name
    _check_mlflow(tmp_path, lines)
    assert left_in(tmp_path) == []


def _check_mlflow(folder: Path, lines: list[dict[str, Any]], curve: str = "tiny") -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'sweeps'")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {r.data.tags["trial_id"]: r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert set(children) == {line["trial_id"] for line in lines}
    assert len(children) == len(runs) - 1
    for line in lines:
        child = children[line["trial_id"]]
        assert child.data.tags["status"] == line["status"]
        assert child.data.params["batch"] == str(line["trial"]["batch"])
        if line["status"] == "ok":
            written = line["passes"]["forward"]
            assert child.data.metrics["forward/mean_s"] == pytest.approx(written["mean_s"])
            steps = client.get_metric_history(child.info.run_id, "forward/step_s")
            assert [m.value for m in sorted(steps, key=lambda m: m.step)] == pytest.approx(written["step_s"])
            names = {file.path for file in client.list_artifacts(child.info.run_id)}
            assert {"layers.json", "log.txt", "plots"} <= names
    points = client.get_metric_history(parent.info.run_id, f"{curve}/cpu/forward/images_per_s")
    assert sorted({m.step for m in points}) == [1, 2]


def test_inline_needs_no_ray_and_one_trial_goes_to_outputs(tmp_path: Path) -> None:
    done = run(tmp_path, "model=tiny", "batch=2", "cluster=inline", "tracking=none", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = journal(only_sweep(tmp_path))
    assert line["status"] == "ok"
    assert only_sweep(tmp_path).is_relative_to(tmp_path / "outputs")
    assert not (tmp_path / "mlflow.db").exists()


def test_failed_trials_are_run_again_on_request(tmp_path: Path) -> None:
    once = tmp_path / "once"
    inline = ["cluster=inline", "calibrate=false"]
    target = ["model._target_=tests.support.models.failing.failing_once", f"+model.once={once}"]
    grid = ["-m", "model=tiny", "batch=1,2", "order=grid", *target, *inline, *QUICK]
    own = tmp_path / "own" / "mlflow.db"
    assert run(tmp_path, *grid, f"tracking.uri=sqlite:///{own}").returncode == 1
    assert run(tmp_path, "resume=latest", *inline).returncode == 1
    sweep = only_sweep(tmp_path)
    assert [line["status"] for line in journal(sweep)] == ["error", "ok"]
    again = run(
        tmp_path, "resume=latest", "rerun=failed", *inline, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db"
    )
    assert again.returncode == 0, again.stdout + again.stderr
    lines = journal(sweep)
    assert [line["status"] for line in lines] == ["error", "ok", "ok"]
    assert lines[0]["trial_id"] == lines[2]["trial_id"]
    _check_mlflow(own.parent, lines[1:], curve="failing_once")
    assert f"sqlite:///{own}" in again.stdout
    assert not (tmp_path / "mlflow.db").exists(), "it went on elsewhere"
    other = f"sqlite:///{tmp_path}/other/mlflow.db"
    assert run(tmp_path, "resume=latest", f"tracking.uri={other}", *inline).returncode == 0
    assert json.loads((sweep / "plan.json").read_text())["facts"]["tracking"]["mlflow"]["uri"] == other
    _check_mlflow(tmp_path / "other", lines[1:], curve="failing_once")


def test_a_password_is_in_no_file_of_a_sweep_and_a_resumed_sweep_demands_it(tmp_path: Path) -> None:
    uri = "http://me:s3cr3t/x@127.0.0.1:1"
    inline = ["cluster=inline", "calibrate=false"]
    done = run(tmp_path, "-m", "model=tiny", "batch=1,2", f"tracking.uri={uri}", *inline, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"plan.json", "report.html"} <= {path.name for path in files}
    assert [path for path in files if b"s3cr3t" in path.read_bytes()] == []
    assert "s3cr3t" not in done.stdout + done.stderr
    without_password = run(tmp_path, "resume=latest", *inline)
    assert without_password.returncode == 2, without_password.stdout + without_password.stderr
    assert without_password.stderr.startswith(
        "error: tracking.uri: expected the sweep's address with its password, here or in "
    )
    server = f"sqlite:///{tmp_path}/mlflow.db"
    assert run(tmp_path, "resume=latest", *inline, MLFLOW_TRACKING_URI=server).returncode == 0
    _check_mlflow(tmp_path, journal(only_sweep(tmp_path)))


def test_help_lists_what_can_be_set(tmp_path: Path) -> None:
    printed = run(tmp_path, "--help").stdout
    for word in (
        "model: alexnet",
        "vgg16",
        "device: cpu, gpu",
        "protocol: adaptive, classic",
        "timeout_s",
        "Exit codes",
    ):
        assert word in printed
    assert "max_seconds" in run(tmp_path, "--cfg", "job").stdout


def test_the_shell_completes_names(tmp_path: Path) -> None:
    environment = terminal_environment() | {"COMP_LINE": "python run.py model=vg", "COMP_POINT": "22"}
    done = subprocess.run(
        [*COMMAND, "-sc", "query=bash"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "model=vgg16" in done.stdout
