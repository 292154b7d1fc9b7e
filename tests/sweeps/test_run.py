"""The command line, as a user runs it: real Hydra, Ray, TensorFlow and MLflow in a folder of its own."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, str(ROOT / "sweeps" / "run.py")]
QUICK = ["protocol=classic", "protocol.steps=3", "protocol.burn_in=1"]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = _environment() | environment
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False, env=env)


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_", "PYTEST"))}
    return kept | {"COLUMNS": "160"}


def only_sweep(folder: Path) -> Path:
    (plan,) = [*folder.glob("multirun/*/*/plan.json"), *folder.glob("outputs/*/*/plan.json")]
    return plan.parent


def journal(sweep: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (sweep / "results.jsonl").read_text().splitlines()]


def test_a_dry_run_says_what_would_run_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "model=tiny,vgg16", "batch=1,100000", "cluster=inline", "dry_run=true", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vgg16 b=100000" in done.stdout
    assert "Nothing was run." in done.stdout
    assert "vgg16 at batch 100000 on cpu will take about" in done.stderr
    assert list(tmp_path.rglob("*.*")) == []


def test_nets_that_cannot_be_built_are_told_before_anything_runs(tmp_path: Path) -> None:
    done = run(
        tmp_path, "-m", "model=keras", "model.name=Xception,MobileNetV2", "model.image_size=48", "batch=1,2", *QUICK
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "model=Xception model.num_classes=1000 model.image_size=48: the net cannot be built" in done.stderr
    assert list(tmp_path.glob("multirun/*/*")) == []


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


def left_in(folder: Path) -> list[str]:
    """What of the sweep in this folder, Ray's processes included, does not end by itself."""
    _, alive = psutil.wait_procs([p for p in psutil.process_iter() if _belongs(p, folder)], timeout=60)
    return [str(process) for process in alive]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd().startswith(str(folder))
    except psutil.Error:
        return False


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


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["-m", "model=vgg61,tiny", "batch=0,two"], ["Did you mean vgg16", "batch=0: ", "batch=two: expected a whole"]),
        (["modle=vgg16"], ["there is no key 'modle'. Did you mean model"]),
        (["passes=[sideways]"], ["expected one of forward, forward_backward. Received: 'sideways'"]),
        (["passes=forward"], ["as passes=[forward]"]),
        (["-m", "device=gpu,cpuu"], ["device=gpu asks for 1 GPU and this machine has none", "device=cpuu: "]),
        (["-m", "model=tiny", "device.cpus=99", "batch=0"], ["device.cpus=99 asks for 99 cores", "batch=0: "]),
        (["model=keras", "model.name=MobilNetV2"], ["Did you mean MobileNetV2"]),
        (["model=vgg16", "model.num_classes=many"], ["num_classes"]),
        (["model.weights=no.npy"], ["model.weights=no.npy: expected a file"]),
        (["precision=tf32"], ["expected an NVIDIA GPU"]),
        (["model._target_=nets.vgg.vgg61"], ["nets.vgg has no 'vgg61'. Did you mean vgg16"]),
        (["protocol=classic", "protocol.steps=0", "repeats=0"], ["protocol.steps=0: ", "repeats=0: "]),
        (["protocol=classic", "protocol.target=0.1"], ["protocol has no key 'target'"]),
        (["tracking.sinks=[mlfow]"], ["did you mean 'mlflow'"]),
        (["resume=latest"], ["expected a sweep's folder"]),
        (["rerun=failed"], ["rerun=failed: expected resume=latest"]),
        (
            ["retries=-1", "fail_fast=0", "device.memory_mb=0"],
            ["retries=-1: ", "fail_fast=0: ", "device.memory_mb=0: "],
        ),
        (["-m", "retries=1,2", "model=tiny"], ["retries is the whole sweep's"]),
        (["-m", "hydra.sweep.dir=/proc/sweep", "batch=0"], ["expected a results folder that can be", "batch=0: "]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_bad_input_is_told_at_once_and_nothing_runs(tmp_path: Path, arguments: list[str], sentences: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    told = done.stderr.replace("\n", " ")
    for sentence in sentences:
        assert sentence in told
    assert not list(tmp_path.rglob("plan.json"))
    assert not (tmp_path / "mlflow.db").exists()


def interrupted(folder: Path, arguments: list[str], after: str, number: signal.Signals) -> tuple[int, str]:
    """Run a sweep, and send the signal to its whole process group, as a terminal does, after a line of output."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(after):
                break
        os.killpg(process.pid, number)
        said.append(process.stdout.read())
        return process.wait(60), "".join(said)


def test_a_terminal_that_closes_interrupts(tmp_path: Path) -> None:
    """The system sends SIGHUP, and no word can be written any more."""
    (tmp_path / "go").touch()
    grid = ["-m", "model._target_=tests.support.models.healthy.waiting", "batch=1,2", "order=grid", *QUICK]
    command = [*COMMAND, *grid, "calibrate=false", "tracking=csv"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(command[0], command, _environment())
    said = b""
    while b"1/2" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    sweep = only_sweep(tmp_path)
    assert [line["status"] for line in journal(sweep)] == ["ok"]
    for name in ("results.csv", "report.html"):
        assert (sweep / name).stat().st_size > 0, name
    assert left_in(tmp_path) == []


def test_a_reader_that_goes_away_costs_no_result(tmp_path: Path) -> None:
    arguments = ["-m", "model=tiny", "batch=1,2", *QUICK, "cluster=inline", "calibrate=false", "tracking=none"]
    reader = shlex.join([*COMMAND, *arguments]) + " | head -n 1; exit ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", reader],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "standard output can no longer be written (Broken pipe)" in done.stderr
    assert "Traceback" not in done.stderr
    assert [line["status"] for line in journal(only_sweep(tmp_path))] == ["ok", "ok"]


def test_an_interrupted_sweep_keeps_what_it_has_and_is_resumed(tmp_path: Path) -> None:
    grid = ["-m", "model._target_=tests.support.models.healthy.waiting", "batch=1,2,3", "order=grid", *QUICK]
    let_one_end = (tmp_path / "go").touch
    let_one_end()
    code, said = interrupted(tmp_path, [*grid, "calibrate=false", "tracking=csv"], "1/3", signal.SIGINT)
    assert code == 130, said
    assert left_in(tmp_path) == []
    sweep = only_sweep(tmp_path)
    before = journal(sweep)
    assert [line["status"] for line in before] == ["ok"]
    assert "2 of 3 trials have no result" in said
    assert f"resume={sweep.relative_to(tmp_path)}" in said
    assert "Traceback" not in said
    for name in ("results.csv", "report.html"):
        assert (sweep / name).stat().st_size > 0, name
    resuming = ["resume=latest", "cluster=inline", "calibrate=false", "tracking=csv"]
    let_one_end()
    code, said = interrupted(tmp_path, resuming, "1/2", signal.SIGTERM)
    assert code == 130, said
    assert len(journal(sweep)) == 2
    let_one_end()
    done = run(tmp_path, *resuming)
    assert done.returncode == 0, done.stdout + done.stderr
    after = journal(sweep)
    assert after[0] == before[0]
    assert sorted((line["trial"]["batch"], line["status"]) for line in after) == [(1, "ok"), (2, "ok"), (3, "ok")]
    assert not (tmp_path / "outputs").exists()


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


def test_a_password_is_in_no_file_of_a_sweep_and_is_asked_for_when_it_goes_on(tmp_path: Path) -> None:
    uri = "http://me:s3cr3t/x@127.0.0.1:1"
    inline = ["cluster=inline", "calibrate=false"]
    done = run(tmp_path, "-m", "model=tiny", "batch=1,2", f"tracking.uri={uri}", *inline, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"plan.json", "report.html"} <= {path.name for path in files}
    assert [path for path in files if b"s3cr3t" in path.read_bytes()] == []
    assert "s3cr3t" not in done.stdout + done.stderr
    asked = run(tmp_path, "resume=latest", *inline)
    assert asked.returncode == 2, asked.stdout + asked.stderr
    assert asked.stderr.startswith("error: tracking.uri: expected the sweep's address with its password, here or in ")
    server = f"sqlite:///{tmp_path}/mlflow.db"
    assert run(tmp_path, "resume=latest", *inline, MLFLOW_TRACKING_URI=server).returncode == 0
    _check_mlflow(tmp_path, journal(only_sweep(tmp_path)))


def test_a_sweep_stops_when_all_fail_alike(tmp_path: Path) -> None:
    grid = ["-m", "model=tiny", "batch=1,2,3,4", "model._target_=tests.support.models.failing.raising", "fail_fast=2"]
    done = run(tmp_path, *grid, "cluster=inline", "calibrate=false", "tracking=none", *QUICK)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fail_fast=2: the first to end failed alike, ValueError: expected a good day" in done.stderr
    assert "2 of 4 trials have no result" in done.stdout
    assert len(journal(only_sweep(tmp_path))) == 2


def test_a_full_disk_ends_a_sweep_with_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        many = ",".join(str(batch) for batch in range(1, 25))
        arguments = ["cluster=inline", "calibrate=false", "tracking=csv"]
        done = run(small, "-m", "model=tiny", f"batch={many}", *arguments, *QUICK)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert "trials have no result; run them with" in done.stdout
        sweep = only_sweep(small)
        kept = journal(sweep)
        assert 2 < len(kept) < 24
        assert subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        done = run(small, "resume=latest", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert journal(sweep)[: len(kept)] == kept
        assert len({line["trial_id"] for line in journal(sweep)}) == len(journal(sweep)) == 24
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_help_says_what_can_be_set(tmp_path: Path) -> None:
    told = run(tmp_path, "--help").stdout
    for word in (
        "model: alexnet",
        "vgg16",
        "device: cpu, gpu",
        "protocol: adaptive, classic",
        "timeout_s",
        "Exit codes",
    ):
        assert word in told
    assert "max_seconds" in run(tmp_path, "--cfg", "job").stdout


def test_the_shell_completes_names(tmp_path: Path) -> None:
    environment = _environment() | {"COMP_LINE": "python run.py model=vg", "COMP_POINT": "22"}
    done = subprocess.run(
        [*COMMAND, "-sc", "query=bash"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "model=vgg16" in done.stdout
