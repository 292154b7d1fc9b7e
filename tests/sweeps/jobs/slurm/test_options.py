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

from sweeps.jobs.slurm import batch_script
from sweeps.jobs.slurm.options import Options, folder_problems

PLAIN = Options(nodes=3, cpus=8, time="1:30:00", venv="/envs/sweeps")


def script(options: Options, arguments: tuple[str, ...] = ()) -> str:
    text = batch_script.text(
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


def test_the_options_that_slurm_gets() -> None:
    assert directives(script(PLAIN)) == [
        "--job-name=sweep-20260101-000000-abc",
        '--output="/home/me/my sweep/slurm-%j.out"',
        "--open-mode=append",
        "--nodes=3",
        "--ntasks-per-node=1",
        "--no-kill",
        "--cpus-per-task=8",
        "--time=1:30:00",
        "--signal=B:USR1@120",
        "--dependency=singleton",
    ]
    options = Options(
        gpus=4, gpu_type="a100", memory="64G", partition="gpu", account="lab", sbatch=["--qos=high"], stop_s=0
    )
    assert directives(script(options))[6:] == [
        "--exclusive",
        "--mem=64G",
        "--partition=gpu",
        "--account=lab",
        "--dependency=singleton",
        "--gres=gpu:a100:4",
        "--qos=high",
    ]
    many = Options(nodes="2-8", requeue=5)
    assert {"--nodes=2-8", "--requeue", "--signal=B:USR1@120"} <= set(directives(script(many)))
    assert "--ntasks-per-node=1" not in directives(script(many))  # with it, Slurm takes two and never more


def test_a_value_cannot_become_another_option() -> None:
    options = Options(partition="main --array=1-3", account="lab #1", memory="8G --wrap=id")
    assert not options.problems()  # sbatch knows what partitions are called
    wanted = {'"--partition=main --array=1-3"', '"--account=lab #1"', '"--mem=8G --wrap=id"'}
    assert wanted <= set(directives(script(options)))


def test_directives_come_before_any_command() -> None:
    lines = script(PLAIN).splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")]


def test_what_the_script_runs_is_there() -> None:
    named = {Path(path) for path in re.findall(r"python (?:-P )?(/\S+\.py)", script(PLAIN))}
    assert {path.name for path in named} == {"nodes.py", "run.py"}
    assert all(path.is_file() for path in named)


def test_the_job_resumes_the_sweep_with_this_commands_settings() -> None:
    text = script(PLAIN, ("tracking.sinks=[mlflow,csv]", "fail_fast=3"))
    assert "cluster=ray 'tracking.sinks=[mlflow,csv]' fail_fast=3 " in text
    assert shlex.join(["resume='/home/me/my sweep'"]) in text
    assert '"cluster.address=$RAY_IP:$RAY_PORT"' in text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (PLAIN, 'export PATH=/envs/sweeps/bin:"$PATH"'),
        (Options(setup=["module load cuda/12"]), "module load cuda/12"),
        (Options(setup="module load cuda/12"), "module load cuda/12"),
        (Options(container="apptainer exec --nv s.sif"), "apptainer exec --nv s.sif ray start --head"),
        (Options(cpus=8), "--ntasks-per-node=1 --cpus-per-task=8 "),
        (Options(), '--num-cpus="$(env -u OMP_NUM_THREADS nproc)"'),
        (Options(gpus=2), "--num-gpus=2"),
        (Options(interface="ib0"), "nodes.py address ib0)"),
    ],
)
def test_the_script_sets_up_the_environment_of_the_job(options: Options, line: str) -> None:
    assert line in script(options)


def test_a_container_brings_its_own_python() -> None:
    assert "export PATH=" not in script(Options(container="apptainer exec s.sif"))


def test_a_token_is_made_by_the_job_and_is_on_no_command_line() -> None:
    text = script(PLAIN)
    assert "export RAY_AUTH_TOKEN RAY_AUTH_MODE=token" in text
    assert "--token" not in text


def test_a_folder_of_any_name_is_what_the_job_resumes() -> None:
    text = batch_script.text(PLAIN, sweep_id="s", folder=Path("/data/run (1),b"), cwd=Path("/"), arguments=())
    (line,) = [line for line in text.splitlines() if "resume=" in line]
    (resume,) = [word for word in shlex.split(line) if word.startswith("resume=")]
    assert OverridesParser.create().parse_override(resume).value() == "/data/run (1),b"


SIGNS = "50% $HOME `id` 'a' ; & * #"


def test_a_script_takes_every_sign_for_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / SIGNS
    assert folder_problems("20260101-000000-abc", folder) == []
    arguments = [f"tracking.experiment={SIGNS}", "a\\", 'b"c']
    text = batch_script.text(PLAIN, sweep_id="x", folder=folder, cwd=folder, arguments=arguments)
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
def test_folders_and_ids_that_an_sbatch_line_cannot_hold_are_refused(sweep_id: str, name: str) -> None:
    (problem,) = folder_problems(sweep_id, Path("/home") / name)
    assert "\n" not in problem


class Allocation:
    """A job's script on this machine, with stand-ins for Slurm's commands and variables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        # In the shell's place, so that nothing is left when it is ended.
        sweep = (
            "import os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); "
            "os.kill(os.getppid(), signal.SIGUSR1); signal.pause()"
        )
        self.stub("srun", "")
        self.stub("scancel", "")
        self.stub("sleep", f'[ "$1" = 60 ] && echo slept >> {folder}/slept; exec /bin/sleep 0.1')
        self.stub("scontrol", f"echo $* >> {folder}/asked")
        self.limit_in(60)
        self.python("echo 127.0.0.1 1 2", "", f'exec {sys.executable} -c "{sweep}"')

    def stub(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def limit_in(self, seconds: int) -> None:
        self.stub("squeue", f'date --date="{seconds} seconds" +%Y-%m-%dT%H:%M:%S')

    def python(self, address: str, wait: str, sweep: str) -> None:
        self.stub(
            "python",
            f"""case "$*" in
*nodes.py\\ address*) {address} ;;
*nodes.py\\ wait*) {wait}
;;
*run.py*)
    echo began >> {self.folder}/sweep
    {sweep} ;;
esac""",
        )

    def run(self, options: Options, **environment: str) -> subprocess.CompletedProcess[str]:
        options.venv = str(self.folder)
        text = batch_script.text(options, sweep_id="s", folder=self.folder, cwd=self.folder, arguments=())
        env = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1", **environment}
        return subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True, timeout=60, check=False)

    def written(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def allocation(tmp_path: Path) -> Allocation:
    return Allocation(tmp_path)


@pytest.mark.parametrize("when", ["at once", "before the nodes have come", "while the sweep runs"])
def test_the_signal_before_the_time_limit_ends_the_job_in_order(allocation: Allocation, when: str) -> None:
    if when == "before the nodes have come":
        allocation.python("echo 127.0.0.1 1 2", "kill -USR1 $PPID; exec /bin/sleep 100", "")
    done = allocation.run(Options(setup=["kill -USR1 $$"] if when == "at once" else []))
    assert done.returncode == 130, done.stderr
    assert bool(allocation.written("sweep")) == (when == "while the sweep runs")
    assert allocation.written("asked") == ""


DONE = "echo line >> results.jsonl; "
STOPS = "trap : TERM; kill -USR1 $PPID; /bin/sleep 0.2; "
CANCELLED = f"{STOPS}kill -TERM $PPID; /bin/sleep 0.2; "


@pytest.mark.parametrize(
    ("sweep", "restarts", "limit_s", "requeued", "words"),
    [
        (f"{DONE}{STOPS}exit 130", 0, 60, True, "Requeued"),
        (
            f"{DONE}{STOPS}exit 130",
            3,
            60,
            False,
            "Not requeued: it was requeued 3 times, and cluster.requeue=3 allows",
        ),
        (f"{STOPS}exit 130", 0, 60, False, "Not requeued: no trial finished within a whole time limit"),
        (f"{STOPS}exit 130", 0, 3600, True, "Requeued"),  # preempted, long before the limit
        (f"{DONE}{STOPS}exit 1", 0, 60, False, ""),  # all trials were done
        (f"{DONE}exit 130", 0, 60, False, ""),
        (f"{DONE}{CANCELLED}exit 130", 0, 60, False, ""),  # cancelled while it stopped
        (f"{DONE}{CANCELLED}exit 130", 0, -1, True, "Requeued"),  # the time limit itself came while it stopped
    ],
)
def test_a_job_goes_on_by_itself_after_its_time_limit(
    allocation: Allocation, sweep: str, restarts: int, limit_s: int, requeued: bool, words: str
) -> None:
    allocation.limit_in(limit_s)
    allocation.python("echo 127.0.0.1 1 2", "", sweep)
    done = allocation.run(Options(requeue=3), SLURM_RESTART_COUNT=str(restarts))
    assert ("requeue 1" in allocation.written("asked")) == requeued, done.stdout + done.stderr
    assert words in done.stdout
    assert (done.stdout != "") == (words != "")
    assert done.returncode == int(sweep.split()[-1])


def test_a_site_that_does_not_let_jobs_requeue_is_named(allocation: Allocation) -> None:
    allocation.stub("scontrol", "echo 'Requested operation is presently disabled for job 1'; exit 1")
    allocation.python("echo 127.0.0.1 1 2", "", f"{DONE}{STOPS}exit 130")
    done = allocation.run(Options(requeue=3))
    assert done.returncode == 130
    assert "Not requeued: Slurm refuses it here (Requested operation is presently disabled for job 1)" in done.stdout


def test_a_ray_that_does_not_come_ends_the_job_as_one_in_which_nothing_ran(allocation: Allocation) -> None:
    allocation.python("echo 127.0.0.1 1 2", "exit 1", "")
    assert allocation.run(Options(requeue=3)).returncode == 2
    allocation.python("exit 1", "", "")
    assert allocation.run(Options()).returncode == 2
    assert (allocation.written("sweep"), allocation.written("asked")) == ("", "")


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (Options(), []),
        (PLAIN, []),
        (Options(time="2-12"), []),
        (Options(time="0"), []),
        (Options(time="3:01"), []),
        (Options(time="0-0:3:1"), []),
        (Options(time="1", stop_s=0), []),
        (Options(time="3"), ["time=3: expected more than cluster.stop_s=120 and the 60 s that Slurm may signal"]),
        (Options(time="0:1:30", stop_s=30), ["Received: 90 s."]),
        (Options(time="infinite", nodes="2-8"), []),
        (Options(nodes=0, cpus=0, gpus=-1), ["cluster.cpus=0: ", "cluster.gpus=-1: ", "cluster.nodes=0: "]),
        (Options(nodes="8-2"), ["cluster.nodes=8-2: expected a number of nodes, at least 1, or a range"]),
        (Options(nodes="many"), ["or a range such as 2-8. Received: many."]),
        (Options(requeue=-1), ["cluster.requeue=-1: expected at least 0"]),
        (Options(requeue=3, stop_s=0), ["cluster.requeue=3: expected cluster.stop_s above 0 with it"]),
        (Options(setup={"a": 1}), ["cluster.setup: expected a shell line or a list of them"]),
        (Options(time="two hours"), ["cluster.time=two hours: expected minutes"]),
        (Options(gpu_type="a100"), ["expected cluster.gpus with it"]),
        (Options(venv="/v", container="c"), ["expected one of them"]),
        (Options(sbatch=["qos=high"]), ["cluster.sbatch: expected options of sbatch, such as "]),
        (Options(partition="a\n#SBATCH --uid=0"), ["cluster.partition: expected one line"]),
        (
            Options(partition='a"b', account="", memory="\\"),
            [f"cluster.{key}: expected a non-empty value without" for key in ("memory", "partition", "account")],
        ),
    ],
)
def test_problems_are_reported_all_at_once(options: Options, sentences: list[str]) -> None:
    problems = options.problems()
    assert len(problems) == len(sentences)
    for problem, sentence in zip(problems, sentences, strict=True):
        assert sentence in problem
