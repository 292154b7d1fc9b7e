"""The batch script as text. `tests/slurm` submits it to a real Slurm."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeps.cluster import slurm
from sweeps.errors import SweepError

PLAIN = slurm.Options(nodes=3, cpus=8, time="1:30:00", venv="/envs/sweeps")


def script(options: slurm.Options, arguments: tuple[str, ...] = ()) -> str:
    text = slurm.script(
        options,
        sweep_id="20260101-000000-abc",
        folder=Path("/home/me/my sweep"),
        cwd=Path("/home/me"),
        arguments=arguments,
    )
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    return text


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_what_is_asked_of_slurm() -> None:
    assert directives(script(PLAIN)) == [
        "--job-name=sweep-20260101-000000-abc",
        "--dependency=singleton",
        '--output="/home/me/my sweep/slurm-%j.out"',
        "--nodes=3",
        "--ntasks-per-node=1",
        "--no-kill",
        "--cpus-per-task=8",
        "--time=1:30:00",
        "--signal=B:USR1@120",
    ]
    options = slurm.Options(
        gpus=4, gpu_type="a100", memory="64G", partition="gpu", account="lab", sbatch=["--qos=high"], stop_s=0
    )
    assert directives(script(options))[6:] == [
        "--exclusive",
        "--gres=gpu:a100:4",
        "--mem=64G",
        "--partition=gpu",
        "--account=lab",
        "--qos=high",
    ]


def test_directives_come_before_any_command() -> None:
    lines = script(PLAIN).splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")]


def test_the_job_resumes_the_sweep_with_this_commands_settings() -> None:
    text = script(PLAIN, ("tracking.sinks=[mlflow,csv]", "fail_fast=3"))
    assert "cluster=ray 'tracking.sinks=[mlflow,csv]' fail_fast=3 " in text
    assert shlex.join(["resume='/home/me/my sweep'"]) in text
    assert '"cluster.address=$RAY_IP:$RAY_PORT"' in text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (PLAIN, 'export PATH=/envs/sweeps/bin:"$PATH"'),
        (slurm.Options(setup=["module load cuda/12"]), "module load cuda/12"),
        (slurm.Options(container="apptainer exec --nv s.sif"), "apptainer exec --nv s.sif ray start --head"),
        (slurm.Options(cpus=8), "srun --ntasks-per-node=1 --cpus-per-task=8 "),
        (slurm.Options(), '--num-cpus="$(env -u OMP_NUM_THREADS nproc)"'),
        (slurm.Options(gpus=2), "--num-gpus=2"),
        (slurm.Options(interface="ib0"), "slurm_nodes.py address ib0)"),
    ],
)
def test_where_it_runs(options: slurm.Options, line: str) -> None:
    assert line in script(options)


def test_a_container_brings_its_own_python() -> None:
    assert "export PATH=" not in script(slurm.Options(container="apptainer exec s.sif"))


def test_a_token_is_made_by_the_job_and_is_on_no_command_line() -> None:
    text = script(PLAIN)
    assert "export RAY_AUTH_TOKEN RAY_AUTH_MODE=token" in text
    assert "--token" not in text


def test_a_folder_of_any_name_is_what_the_job_resumes() -> None:
    text = slurm.script(PLAIN, sweep_id="s", folder=Path("/data/run (1),b"), cwd=Path("/"), arguments=())
    (line,) = [line for line in text.splitlines() if "resume=" in line]
    (resume,) = [word for word in shlex.split(line) if word.startswith("resume=")]
    assert OverridesParser.create().parse_override(resume).value() == "/data/run (1),b"


SIGNS = "50% $HOME `id` 'a' ; & * #"


def test_a_script_takes_every_sign_for_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / SIGNS
    assert slurm.folder_problems("20260101-000000-abc", folder) == []
    arguments = [f"tracking.experiment={SIGNS}", "a\\", 'b"c']
    text = slurm.script(PLAIN, sweep_id="x", folder=folder, cwd=folder, arguments=arguments)
    assert f'--output="{str(folder).replace("%", "%%")}/slurm-%j.out"' in directives(text)
    (tmp_path / SIGNS).mkdir()
    line = next(line for line in text.splitlines() if "cluster.address" in line and "resume=" in line)
    stub = f"cd {shlex.quote(str(folder))} || exit 1\npwd\npython() {{ printf '%s\\n' \"$@\"; }}\n{line}\nwait\n"
    env = {"RAY_IP": "host", "RAY_PORT": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", stub], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    where, _, resume, cluster, *rest, address = done.stdout.splitlines()
    assert where == str(folder)
    (override,) = OverridesParser.create().parse_overrides([resume])
    assert override.value() == str(folder)
    assert (cluster, rest, address) == ("cluster=ray", arguments, "cluster.address=host:1")


@pytest.mark.parametrize(("sweep_id", "name"), [("x\n#SBATCH --wrap=y", "a"), ("x", 'a"'), ("x", "a\\"), ("", "a")])
def test_what_a_line_of_slurms_cannot_hold(sweep_id: str, name: str) -> None:
    (problem,) = slurm.folder_problems(sweep_id, Path("/home") / name)
    assert "\n" not in problem


@pytest.mark.parametrize("when", ["at once", "before the nodes have come", "while the sweep runs"])
def test_the_signal_before_the_time_limit_ends_the_job_in_order(tmp_path: Path, when: str) -> None:
    stubs = {
        "srun": "",
        "scancel": "",
        # In the shell's place, so that nothing is left when it is ended.
        "python": f"""
case "$*" in
*slurm_nodes.py\\ address*) echo 127.0.0.1 1 2 ;;
*slurm_nodes.py\\ wait*) [ "{when}" = "while the sweep runs" ] || {{ kill -USR1 $PPID; exec sleep 100; }} ;;
*run.py*)
    echo began >> {tmp_path}/sweep
    exec {sys.executable} -c "
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
os.kill(os.getppid(), signal.SIGUSR1)
signal.pause()" ;;
esac""",
    }
    (tmp_path / "bin").mkdir()
    for name, body in stubs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    setup = ["kill -USR1 $$"] if when == "at once" else []
    options = slurm.Options(venv=str(tmp_path), setup=setup)
    text = slurm.script(options, sweep_id="s", folder=tmp_path, cwd=tmp_path, arguments=())
    environment = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1"}
    done = subprocess.run(
        ["bash", "-c", text], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 130, done.stderr
    assert (tmp_path / "sweep").exists() == (when == "while the sweep runs")


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (slurm.Options(), []),
        (PLAIN, []),
        (slurm.Options(time="2-12"), []),
        (slurm.Options(time="0"), []),
        (slurm.Options(time="3:01"), []),
        (slurm.Options(time="0-0:3:1"), []),
        (slurm.Options(time="1", stop_s=0), []),
        (slurm.Options(time="3"), ["time=3: expected more than cluster.stop_s=120 and the 60 s that Slurm may signal"]),
        (slurm.Options(time="0:1:30", stop_s=30), ["Received: 90 s."]),
        (slurm.Options(nodes=0, cpus=0, gpus=-1), ["cluster.nodes=0: ", "cluster.cpus=0: ", "cluster.gpus=-1: "]),
        (slurm.Options(time="two hours"), ["cluster.time=two hours: expected minutes"]),
        (slurm.Options(gpu_type="a100"), ["expected cluster.gpus with it"]),
        (slurm.Options(venv="/v", container="c"), ["expected one of them"]),
        (slurm.Options(sbatch=["qos=high"]), ["expected options such as --qos=high. Received: 'qos=high'"]),
        (slurm.Options(partition="a\n#SBATCH --uid=0"), ["cluster.partition: expected one line"]),
    ],
)
def test_problems_are_told_all_at_once(options: slurm.Options, sentences: list[str]) -> None:
    found = slurm.problems(options)
    assert len(found) == len(sentences)
    for told, sentence in zip(found, sentences, strict=True):
        assert sentence in told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (None, "sbatch could not be started, nothing was submitted: "),
        ("echo wrong account >&2; exit 1", "sbatch refused job.sh: wrong account"),
        (
            "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
            "Socket timed out on send/recv operation; the job may be there, `squeue --me` tells",
        ),
    ],
)
def test_what_sbatch_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str | None, told: str
) -> None:
    sbatch = tmp_path / "sbatch"
    if body is not None:
        sbatch.write_text(f"#!/bin/sh\n{body}\n")
        sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SweepError, match=re.escape(told)):
        slurm.submit(Path("job.sh"), os.environ)
