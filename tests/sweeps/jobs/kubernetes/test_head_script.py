"""The script that the head of a RayJob runs: the command line, its resumption, and the object store."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeps.jobs.kinds.kubernetes import Kubernetes
from tests.support.sweep_command import ROOT, plain_environment
from tests.sweeps.jobs.kubernetes.manifests import ALL, CLAIM, documents, pods


def script_of(options: Kubernetes, **further: Any) -> str:
    """Return the script that the head runs, once bash has parsed it and the head mounts it."""
    scripts, manifest = documents(options, **further)
    text = str(scripts["data"]["run.sh"])
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    (volume,) = [each for each in pods(manifest)[1]["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] == scripts["metadata"]["name"] == manifest["metadata"]["name"]
    return text


def test_the_head_runs_the_command_line_or_what_is_left_of_it() -> None:
    text = script_of(CLAIM, arguments=["-m", "model=tiny", "batch=1,2", "+model.note=it's", "fail_fast=2"])
    sweep = "-m model=tiny batch=1,2 '+model.note=it'\"'\"'s' fail_fast=2 tracking.uri=sqlite:////results/mlflow.db"
    assert f"set -- {sweep} hydra.sweep.dir=/results/sweep-1 " in text
    assert (
        "[ -f /results/sweep-1/plan.json ] && set -- resume=/results/sweep-1 fail_fast=2 tracking.uri=sqlite:" in text
    )
    assert 'python sweeps/run.py "$@" cluster=ray cluster.address=auto\ncode=$?\nexit "$code"\n' in text


def test_a_sweep_of_any_name_is_resumed() -> None:
    (line,) = [line for line in script_of(CLAIM, resume="run (1)").splitlines() if line.startswith("set -- ")]
    resume = shlex.split(line)[2]
    assert OverridesParser.create().parse_override(resume).value() == "/results/run (1)"


def test_what_a_stopped_job_has_reaches_the_object_store(tmp_path: Path) -> None:
    """Stopped as Ray does it: SIGTERM to everything that the job has started, and some time to end."""
    manifest = documents(ALL)[1]
    (head,) = pods(manifest)[1]["containers"]
    assert head["env"] == [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "120"}]
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/bash\n"
        f"echo $3 $4 >> {tmp_path}/copied\n"
        f'[ "$1" != sweeps/run.py ] || exec {sys.executable} -c "\n'
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        'os.kill(os.getpid(), signal.SIGTERM)"\n'
    )
    python.chmod(0o755)
    script = script_of(ALL).replace("cd /sweeps", f"cd {tmp_path}")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 130, done.stderr
    stored, folder = "s3://bucket/sweeps/sweep-1", "/results/sweep-1"
    copies = [line for line in (tmp_path / "copied").read_text().splitlines() if "s3://" in line]
    assert (copies[0], copies[-1]) == (f"{stored} {folder}", f"{folder} {stored}")


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what the head runs, with this machine's Python and without Ray, below `folder`."""
    script = script.replace("cd /sweeps", f"cd {shlex.quote(str(ROOT))}").replace("/results", f"{folder}/results")
    script = script.replace("cluster=ray cluster.address=auto", "cluster=inline").replace("s3://", f"file://{folder}/")
    script = script.replace("python -m", f"{sys.executable} -m").replace("python sweeps", f"{sys.executable} sweeps")
    kept = plain_environment()
    return subprocess.run(["bash", "-c", script], env=kept, capture_output=True, text=True, timeout=200, check=False)


QUICK = ["model=tiny", "tracking=none", "calibrate=false", "protocol=classic", "protocol.burn_in=1", "protocol.steps=3"]


def test_a_retried_job_runs_what_its_sweep_has_no_result_of(tmp_path: Path) -> None:
    """The head is lost when one of two trials is in the object store, and the job runs again on a new head."""
    script = script_of(ALL, arguments=["-m", "batch=1,2", *QUICK, "timeout_s=0.01"], uri="sqlite:///unused.db")
    first = run_script(script, tmp_path)
    assert first.returncode == 1, first.stderr
    journal = tmp_path / "bucket" / "sweeps" / "sweep-1" / "results.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) == 2
    journal.write_text(f"{lines[0]}\n")
    shutil.rmtree(tmp_path / "results")
    second = run_script(script, tmp_path)
    assert second.returncode == 1, second.stderr
    again = journal.read_text().splitlines()
    assert (len(again), again[0]) == (2, lines[0])
    assert json.loads(again[1])["trial_id"] == json.loads(lines[1])["trial_id"]


def test_a_retry_runs_nothing_anew_that_its_job_has_run_anew(tmp_path: Path) -> None:
    script = script_of(CLAIM, arguments=[*QUICK, "timeout_s=0.01"])
    assert run_script(script, tmp_path).returncode == 1
    journal = tmp_path / "results" / "sweep-1" / "results.jsonl"
    assert len(journal.read_text().splitlines()) == 1
    rerun = script_of(CLAIM, name="sweep-2", resume="sweep-1", arguments=["rerun=failed", "tracking=none"])
    for _ in range(2):
        assert run_script(rerun, tmp_path).returncode == 1
        assert len(journal.read_text().splitlines()) == 2


def test_an_object_store_is_read_before_and_written_after_the_sweep() -> None:
    text = script_of(ALL, uri="http://mlflow.example")
    copied, before, after = "python -m sweeps.jobs.store", *text.split('python sweeps/run.py "$@"')
    assert f"{copied} s3://bucket/sweeps/sweep-1 /results/sweep-1" in before
    assert f"{copied} /results/sweep-1 s3://bucket/sweeps/sweep-1" in after
    assert "tracking.uri=http://mlflow.example" in before


def test_a_sweep_that_is_there_is_resumed_by_its_name() -> None:
    text = script_of(CLAIM, resume="sweep-0", arguments=["rerun=failed"])
    assert "\nset -- resume=/results/sweep-0 rerun=failed tracking.uri=" in text
    text = script_of(CLAIM, resume="sweep-0", arguments=["rerun=failed"], keeps_uri=True)
    assert "\nset -- resume=/results/sweep-0 rerun=failed\n" in text
