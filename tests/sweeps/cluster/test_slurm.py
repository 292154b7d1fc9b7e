"""The batch script as text. `tests/slurm` submits it to a real Slurm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sweeps.cluster import slurm

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
        "--cpus-per-task=8",
        "--time=1:30:00",
        "--signal=B:USR1@120",
    ]
    options = slurm.Options(
        gpus=4, gpu_type="a100", memory="64G", partition="gpu", account="lab", sbatch=["--qos=high"], stop_s=0
    )
    assert directives(script(options))[5:] == [
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
    assert "run.py 'resume=/home/me/my sweep' cluster=ray 'tracking.sinks=[mlflow,csv]' fail_fast=3 " in text
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


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (slurm.Options(), []),
        (PLAIN, []),
        (slurm.Options(time="2-12"), []),
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
