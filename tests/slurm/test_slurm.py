"""Sweeps as Slurm jobs, on a real Slurm of three nodes on this machine.

As root, on Debian: `apt-get install --no-install-recommends slurm-wlm munge`, then `python -m pytest -m slurm`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.slurm import controller

RUN = [sys.executable, str(Path(__file__).resolve().parents[2] / "sweeps" / "run.py")]
QUICK = ["protocol=classic", "protocol.steps=3", "protocol.burn_in=1", "calibrate=false"]
LONGEST_S = 240.0
OVER = {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY"}
NETS = """
import pathlib, time
import keras, nets

def failing() -> keras.Model:
    raise ValueError("expected a good day. Received: a bad one")

def waiting(go: str) -> keras.Model:
    while not pathlib.Path(go).exists():
        time.sleep(0.1)
    return nets.build("tiny")
"""

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(controller.missing() is not None, reason=f"no Slurm here: {controller.missing()}"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with controller.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        kept = {key: value for key, value in environment.items() if not key.startswith(("MLFLOW", "RAY_", "PYTEST"))}
        yield kept | {"COLUMNS": "160"}


class Site:
    """A user's folder on a machine with Slurm."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)
        (folder / "my_nets.py").write_text(NETS)

    def waiting(self, batches: str) -> list[str]:
        """Return a grid whose first half runs, and whose second half waits for the file `late`."""
        (self.folder / "early").touch()
        files = f"+model.go={self.folder}/early,{self.folder}/late"
        return ["-m", "model=tiny", "model._target_=my_nets.waiting", files, batches, "order=grid"]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RUN, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def submit(self, *arguments: str, warns: str = "") -> str:
        done = self.run(*arguments, "cluster=slurm", "cluster.cpus=1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert warns in done.stderr
        found = re.search(r"^Job +(\d+);", done.stdout, re.MULTILINE)
        assert found, done.stdout
        return found[1]

    def follower(self, dependency: str) -> str:
        """Submit a job that starts depending on another job's exit code; return its number."""
        command = ["sbatch", "--parsable", "--output=/dev/null", f"--dependency={dependency}", "--wrap=true"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        command = ["scontrol", "--oneliner", "show", "job", number]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return dict(field.split("=", 1) for field in done.stdout.split() if "=" in field)

    def wait(self, number: str, until: Callable[[dict[str, str]], bool] | None = None) -> dict[str, str]:
        """Return the job as scontrol shows it, once it is over or `until` holds for it."""
        deadline = time.monotonic() + LONGEST_S
        while not (until or (lambda job: job["JobState"] in OVER))(job := self.job(number)):
            assert time.monotonic() < deadline, job
            time.sleep(0.5)
        return job

    def words(self, number: str) -> str:
        """Return everything that the job has printed."""
        return "\n".join(path.read_text() for path in self.folder.glob(f"multirun/*/*/*-{number}.*"))


@pytest.fixture
def site(tmp_path: Path, slurm: Mapping[str, str]) -> Site:
    return Site(tmp_path, slurm)


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def left_of(number: str) -> list[str]:
    """Return the processes of a job's Ray that are still on this machine."""
    place = f"/tmp/ray-{number}-"
    found = [str(process) for process in psutil.process_iter() if place in " ".join(_command_line(process))]
    return found + [str(path) for path in Path("/tmp").glob(f"ray-{number}-*")]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


OF_AN_ALLOCATION = {
    "SLURM_JOB_ID": "999",
    "SLURM_NTASKS": "5",
    "SLURM_CPUS_PER_TASK": "7",
    "SLURM_MEM_PER_CPU": "100",
    "SLURM_MEM_PER_NODE": "100",
    "SLURM_EXPORT_ENV": "NONE",
    "SBATCH_ARRAY_INX": "1-3",
}
"""What is in the environment of a command in another job, and would make this one ask for something else, or fail."""


def test_a_good_and_a_failing_sweep_side_by_side_on_one_host(site: Site) -> None:
    """Submitted from within another allocation, with jobs that follow on their exit codes."""
    tracking = "tracking.experiment={}"
    site.environment |= OF_AN_ALLOCATION
    options = ["cluster.nodes=1-2", "cluster.sbatch=--comment good"]
    good = site.submit("-m", "model=tiny", "batch=1,2,4", *options, tracking.format("good"), *QUICK)
    for key in OF_AN_ALLOCATION:
        del site.environment[key]
    assert site.job(good)["Comment"] == "good"
    failing = ["-m", "model=tiny", "model._target_=null,my_nets.failing", "order=grid", tracking.format("failing")]
    parsable = [
        "cluster.time=5",
        "+cluster.sbatch.comment=bad",
        "cluster.parsable=true",
        "cluster=slurm",
        "cluster.cpus=1",
    ]
    done = site.run(*failing, *parsable, *QUICK)
    bad = done.stdout.strip()
    assert (done.returncode, bad.isdigit()) == (0, True), done.stdout + done.stderr
    followers = {name: site.follower(name) for name in (f"afterok:{good}", f"afternotok:{bad}", f"afterok:{bad}")}
    assert site.job(good)["JobState"] in ("PENDING", "RUNNING")  # the command did not wait
    over = site.wait(good)
    assert (over["JobState"], over["ExitCode"], over["NumNodes"]) == ("COMPLETED", "0:0", "2"), site.words(good)
    over = site.wait(bad)
    assert (over["JobState"], over["ExitCode"]) == ("FAILED", "1:0"), site.words(bad)
    for number in list(followers.values())[:2]:
        assert site.wait(number)["JobState"] == "COMPLETED"
    assert site.job(followers[f"afterok:{bad}"])["Reason"] == "DependencyNeverSatisfied"
    subprocess.run(["scancel", followers[f"afterok:{bad}"]], env=site.environment, check=True)
    for number, statuses in ((good, ["ok", "ok", "ok"]), (bad, ["error", "ok"])):
        (folder,) = {path.parent for path in site.folder.glob(f"multirun/*/*/slurm-{number}.out")}
        lines = journal(folder)
        assert sorted(line["status"] for line in lines) == statuses
        assert (folder / "report.html").is_file()
        assert left_of(number) == []
        check_mlflow(site.folder, "good" if number == good else "failing", lines)


def check_mlflow(folder: Path, experiment: str, lines: list[dict[str, Any]]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    children = [run for run in client.search_runs([found.experiment_id]) if "mlflow.parentRunId" in run.data.tags]
    recorded = {run.data.tags["trial_id"]: run.data.tags["status"] for run in children}
    assert recorded == {line["trial_id"]: line["status"] for line in lines}


def test_a_job_at_its_time_limit_stops_in_order_and_the_next_one_finishes_the_sweep(site: Site) -> None:
    grid = site.waiting("batch=1,2")
    # Slurm counts in minutes, and may signal up to a minute early.
    first = site.submit(*grid, "cluster.time=2", "cluster.stop_s=30", *QUICK)
    over = site.wait(first)
    assert (over["JobState"], over["ExitCode"]) == ("FAILED", "130:0"), site.words(first)
    (folder,) = {path.parent for path in site.folder.glob("multirun/*/*/plan.json")}
    before = journal(folder)
    assert {line["status"] for line in before} == {"ok"}
    assert len(before) == 2, site.words(first)
    assert (folder / "report.html").is_file()
    assert left_of(first) == []
    (site.folder / "late").touch()
    second = site.submit("resume=latest", "cluster.nodes=3", "cluster.time=5", "calibrate=false")
    over = site.wait(second)
    assert (over["JobState"], over["ExitCode"]) == ("COMPLETED", "0:0"), site.words(second)
    after = journal(folder)
    assert after[: len(before)] == before
    assert len({line["trial_id"] for line in after}) == len(after) == 4
    check_mlflow(site.folder, "sweeps", after)
    third = site.run("resume=latest", "cluster=slurm", "cluster.cpus=1")
    assert (third.returncode, "nothing was submitted" in third.stdout) == (0, True), third.stdout + third.stderr


def test_a_node_that_fails_takes_its_trial_along_and_not_the_job(site: Site) -> None:
    number = site.submit(*site.waiting("batch=1"), "cluster.nodes=2", *QUICK)
    job = site.wait(number, until=lambda _: "1/2 " in site.words(number))
    (other,) = {"n1", "n2", "n3"} & set(_hostnames(site, job["NodeList"])) - {job["BatchHost"]}
    _update(site, other, "state=down", "reason=test")
    site.wait(number, until=lambda _: "is tried again" in site.words(number))
    (site.folder / "late").touch()
    over = site.wait(number)
    _update(site, other, "state=resume", check=False)  # it may be back by itself
    assert (over["JobState"], over["ExitCode"]) == ("COMPLETED", "0:0"), site.words(number)
    (folder,) = {path.parent for path in site.folder.glob("multirun/*/*/plan.json")}
    lines = journal(folder)
    assert [line["status"] for line in lines] == ["ok", "ok"]
    assert "lost_before" in lines[1]["host"]


def _hostnames(site: Site, nodes: str) -> list[str]:
    command = ["scontrol", "show", "hostnames", nodes]
    return subprocess.run(command, env=site.environment, capture_output=True, text=True, check=True).stdout.split()


def _update(site: Site, node: str, *changes: str, check: bool = True) -> None:
    subprocess.run(["scontrol", "update", f"nodename={node}", *changes], env=site.environment, check=check)


def test_a_cancelled_job_leaves_nothing_running(site: Site) -> None:
    number = site.submit(*site.waiting("batch=1"), "cluster.nodes=2", *QUICK)
    site.wait(number, until=lambda _: "1/2 " in site.words(number))
    subprocess.run(["scancel", number], env=site.environment, check=True)
    over = site.wait(number)
    assert over["JobState"] == "CANCELLED", site.words(number)
    deadline = time.monotonic() + 30
    while [found for found in left_of(number) if not found.startswith("/tmp/")]:
        assert time.monotonic() < deadline, left_of(number)
        time.sleep(0.5)
    (folder,) = {path.parent for path in site.folder.glob("multirun/*/*/plan.json")}
    assert [line["status"] for line in journal(folder)] == ["ok"]


def test_what_slurm_was_not_asked_for_is_told_and_nothing_is_submitted(site: Site) -> None:
    options = ["cluster=slurm", "cluster.cpus=1", "cluster.gpus=1", "cluster.nodes=0"]
    done = site.run("-m", "model=tiny", "batch=0,1", "device.cpus=1,2", *options)
    assert done.returncode == 2
    assert "device.cpus=2 asks for 2 cores and a node of cluster=slurm has 1" in done.stderr
    assert "batch=0: " in done.stderr
    assert "cluster.nodes=0: " in done.stderr
    assert not list(site.folder.glob("multirun"))
    jobs = subprocess.run(["squeue", "--noheader"], env=site.environment, capture_output=True, text=True, check=True)
    assert jobs.stdout == ""


def test_a_job_that_slurm_refuses_or_never_starts_is_one_sentence(site: Site) -> None:
    done = site.run("-m", "model=tiny", "cluster=slurm", "cluster.cpus=1", "cluster.partition=nowhere")
    assert done.returncode == 2
    assert "sbatch refused" in done.stderr
    assert "nowhere" in done.stderr or "partition" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in site.folder.iterdir() if path.name != "my_nets.py"] == []
    number = site.submit(
        "-m", "model=tiny", "cluster.time=120", warns="can never start as submitted: Slurm reports PartitionTimeLimit. "
    )
    subprocess.run(["scancel", number], env=site.environment, check=True)


def test_a_ray_that_does_not_start_ends_the_job_at_once_with_the_cause(site: Site) -> None:
    """On the first node it ends the job; on another node, the sweep goes on without that node."""
    bin_folder = site.folder / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    ray = bin_folder / "ray"
    ray.write_text(f"""#!/bin/bash
[ "$SLURM_PROCID" = "$(cat {site.folder}/broken)" ] && exec python -c 'import no_such_part_of_ray'
exec {Path(sys.executable).parent}/ray "$@"
""")
    (bin_folder / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    for path in bin_folder.iterdir():
        path.chmod(0o755)
    options = ["-m", "model=tiny", "tracking=none", "cluster.nodes=2", f"cluster.venv={bin_folder.parent}"]
    why = "ModuleNotFoundError: No module named 'no_such_part_of_ray'"
    (site.folder / "broken").write_text("0")
    first = site.submit(*options, *QUICK)
    over = site.wait(first)
    assert (over["JobState"], over["ExitCode"]) == ("FAILED", "2:0"), site.words(first)
    hours, minutes, seconds = map(int, over["RunTime"].split(":"))
    assert hours == 0
    assert 60 * minutes + seconds < 60
    assert re.search(f"error: Ray did not start on n\\d, the job's first node: {why}", site.words(first))
    assert left_of(first) == []
    (site.folder / "broken").write_text("1")
    second = site.submit("resume=latest", *options[2:], *QUICK[3:])
    over = site.wait(second)
    assert (over["JobState"], over["ExitCode"]) == ("COMPLETED", "0:0"), site.words(second)
    assert re.search(f"warning: Ray did not start on n\\d; the sweep continues without it: {why}", site.words(second))


def test_a_sweep_goes_on_over_its_time_limits_by_itself(site: Site) -> None:
    """Three time limits and a last start: each trial once, one job, one output."""
    nets = [f"{site.folder}/go{number}" for number in range(4)]
    waiting = ["-m", "model=tiny", "model._target_=my_nets.waiting", f"+model.go={','.join(nets)}", "order=grid"]
    quick = [*QUICK, "tracking=none", "batch=1"]
    Path(nets[0]).touch()
    number = site.submit(*waiting, *quick, "cluster.time=2", "cluster.stop_s=15", "cluster.requeue=3")
    follower = site.follower(f"afterok:{number}")
    for restart in (1, 2, 3):
        site.wait(number, until=lambda job, count=str(restart): job["Restarts"] == count)
        assert site.job(follower)["JobState"] == "PENDING"
        Path(nets[restart]).touch()
        # Slurm lets a requeued job wait for two minutes. The last start gets the time that it needs.
        changes = ["starttime=now+5", f"timelimit={10 if restart == 3 else 2}"]
        update = ["scontrol", "update", f"jobid={number}", *changes]
        site.wait(number, until=lambda job: job["Reason"] == "BeginTime")
        subprocess.run(update, env=site.environment, check=True)
    over = site.wait(number)
    assert (over["JobState"], over["ExitCode"], over["Restarts"]) == ("COMPLETED", "0:0", "3"), site.words(number)
    (folder,) = {path.parent for path in site.folder.glob("multirun/*/*/plan.json")}
    lines = journal(folder)
    assert [line["status"] for line in lines] == ["ok"] * 4
    assert len({line["trial_id"] for line in lines}) == 4
    assert (folder / f"slurm-{number}.out").read_text().count("Requeued: ") == 3
    assert site.wait(follower)["JobState"] == "COMPLETED"
