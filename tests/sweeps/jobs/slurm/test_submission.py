"""Submitting a script with sbatch, and explaining Slurm's reasons. `tests/slurm` does it with a real Slurm."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sweeps.errors import SweepError
from sweeps.jobs.job import RefusedError
from sweeps.jobs.slurm import submission
from sweeps.jobs.slurm.options import Options
from sweeps.jobs.slurm.submission import Job


def command(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


def submit(folder: Path, options: Options | None = None, secrets: dict[str, str] | None = None, **env: str) -> Job:
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **env}
    return submission.submit(Path("job.sh"), options or Options(), "sweep-1", environment, secrets or {})


TIMED_OUT = "echo 'Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"


@pytest.mark.parametrize(
    ("body", "queue", "words", "refused"),
    [
        ("echo wrong account >&2; exit 1", "echo 7", "sbatch refused job.sh: wrong account", True),
        ("echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1", "", "Unable to contact", True),
        (TIMED_OUT, "", "Socket timed out on send/recv operation; `squeue --name=sweep-1` shows the job if", False),
        (TIMED_OUT, "exit 1", "sbatch did not report whether it accepted job.sh: ", False),
        ("kill -KILL $$", "", "sbatch did not report whether it accepted job.sh: exit code -9", False),
        ("echo ok", "", "sbatch did not report whether it accepted job.sh: ok", False),
    ],
)
def test_what_sbatch_does_not_take(tmp_path: Path, body: str, queue: str, words: str, refused: bool) -> None:
    command(tmp_path, "sbatch", body)
    command(tmp_path, "squeue", queue)
    with pytest.raises(SweepError, match=re.escape(words)) as raised:
        submit(tmp_path)
    assert isinstance(raised.value, RefusedError) == refused


def test_an_sbatch_that_cannot_be_started_has_submitted_nothing(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="sbatch could not be started, nothing was submitted: "):
        submission.submit(Path("job.sh"), Options(), "n", {"PATH": str(tmp_path)}, {})


@pytest.mark.parametrize(
    ("body", "job", "text"),
    [
        ("echo 12", Job("12"), "12"),
        ("echo '12;east'", Job("12", "east"), "12;east"),
        ("echo 'submitting to east'; echo 12; echo 'costs 3 SBU' >&2", Job("12", "", "costs 3 SBU"), "12"),
    ],
)
def test_the_id_of_a_job(tmp_path: Path, body: str, job: Job, text: str) -> None:
    command(tmp_path, "sbatch", body)
    assert submit(tmp_path) == job
    assert str(job) == text


def test_a_job_that_slurm_took_without_saying_so_is_recognised_by_its_name(tmp_path: Path) -> None:
    command(tmp_path, "sbatch", TIMED_OUT)
    command(tmp_path, "squeue", 'case "$*" in *--name=sweep-1*) echo 31 ;; esac')
    assert submit(tmp_path).number == "31"


def test_an_allocation_that_submits_leaves_nothing_in_the_jobs_environment() -> None:
    kept = {"SLURM_CONF": "c", "SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "high", "SBATCH_PARTITION": "long", "HOME": "/h"}
    leaking = [
        *(
            "SLURM_JOB_ID",
            "SLURM_CPUS_PER_TASK",
            "SLURM_MEM_PER_CPU",
            "SLURM_NTASKS",
            "SLURM_CPU_BIND",
            "SLURM_EXPORT_ENV",
        ),
        *(
            "SLURM_TRES_PER_TASK",
            "SLURMD_NODENAME",
            "SRUN_CPUS_PER_TASK",
            "SBATCH_MEM_BIND_TYPE",
            "SBATCH_CPU_BIND_LIST",
        ),
        *("PMI_RANK", "PMIX_NAMESPACE", "CUDA_VISIBLE_DEVICES", "SBATCH_ARRAY_INX", "SBATCH_WAIT", "SBATCH_OUTPUT"),
    ]
    environment = kept | dict.fromkeys(leaking, "1")
    assert submission.without_allocation(environment, Options()) == kept
    assert submission.without_allocation({"CUDA_VISIBLE_DEVICES": "1"}, Options()) != {}


def test_a_variable_of_sbatchs_does_not_count_for_more_than_the_command_line() -> None:
    variables = ["PARTITION", "TIMELIMIT", "MEM_PER_CPU", "EXCLUSIVE", "GPUS", "NO_REQUEUE", "QOS", "CONSTRAINT"]
    environment = {f"SBATCH_{name}": "x" for name in variables}
    assert submission.without_allocation(environment, Options(cpus=1)) == environment
    options = Options(
        partition="p", time="5", memory="1G", gpus=1, requeue=1, sbatch="--constraint=a100", account="lab"
    )
    assert submission.without_allocation(environment, options) == {"SBATCH_QOS": "x"}


@pytest.mark.parametrize(
    ("sbatch", "variable", "options"),
    [
        ({}, None, []),
        ({}, "ALL", []),
        ({}, "NONE", ["--export=URI"]),
        ("--export=NIL", "ALL", ["--export=URI"]),
        ("--export=HOME,PATH", None, ["--export=HOME,PATH,URI"]),
        ("--export=ALL,A=1", "NONE", []),
    ],
)
def test_a_secret_reaches_a_job_that_gets_no_other_variables(
    tmp_path: Path, sbatch: object, variable: str | None, options: list[str]
) -> None:
    command(tmp_path, "sbatch", f'echo "$URI $*" > {tmp_path}/said; echo 1')
    env = {} if variable is None else {"SBATCH_EXPORT": variable}
    submit(tmp_path, Options(sbatch=sbatch), {"URI": "secret"}, **env)
    assert (tmp_path / "said").read_text().split() == ["secret", "--parsable", *options, "job.sh"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            "PartitionTimeLimit",
            "can never start as submitted: Slurm reports PartitionTimeLimit. Next: `scancel 5`, then a shorter",
        ),
        ("PartitionNodeLimit", "then another cluster.nodes or cluster.partition"),
        ("BadConstraints", "then another constraint or cluster.partition"),
        ("QOSMaxWallDurationPerJobLimit", "then a shorter cluster.time"),
        ("AssocMaxCpuPerJobLimit", "then another cluster.cpus"),
        ("QOSMaxNodePerJobLimit", "then another cluster.nodes"),
        ("QOSMaxMemoryPerJob", "then another cluster.memory"),
        ("QOSMaxGRESPerJob", "then another cluster.gpus"),
        ("QOSMinGRES", "then another cluster.gpus"),
        ("InvalidQOS", "then another QOS"),
        ("InvalidAccount", "then another cluster.account"),
        ("DependencyNeverSatisfied", "then another +cluster.sbatch.dependency"),
        ("AssocGrpCPUMinutesLimit", "does not start yet, and may not for long: Slurm reports AssocGrpCPUMinutesLimit"),
        ("AssocMaxJobsLimit", "does not start yet"),
        ("QOSMaxJobsPerUserLimit", "does not start yet"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "does not start yet"),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "not start yet",
        ),
        ("JobHeldUser", "is held and does not start: Slurm reports JobHeldUser. Next: `scontrol release 5`"),
        ("Resources", None),
        ("Priority", None),
        ("Dependency", None),
        ("BeginTime", None),
        ("None", None),
    ],
)
def test_the_message_for_each_reason_of_slurms(reason: str, words: str | None) -> None:
    sentence = submission.sentence(reason, Job("5"))
    assert (sentence is None) == (words is None)
    assert words is None or (sentence is not None and words in sentence)
    if sentence is not None and "`scancel 5`" in sentence:
        assert "`scancel -M east 5`" in str(submission.sentence(reason, Job("5", "east")))
