"""Batch jobs from the command line, as far as no cluster is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sweeps.jobs.job import BatchJob
from sweeps.jobs.kinds.kubernetes import Kubernetes
from sweeps.jobs.kinds.ray_job import RayJob
from sweeps.jobs.kinds.slurm import Slurm
from tests.support.records import make_result, make_sweep, write_journal
from tests.support.sweep_command import plain_environment
from tracking.schema.device import Device

ROOT = Path(__file__).resolve().parents[3]
TRIAL = Device(kind="gpu", cpus=8, gpus=2, accelerator="H100", node_labels={"rack": "7"}, resources={"disk": 1})
KUBERNETES = ["cluster=kubernetes", "cluster.image=registry.example/sweeps:1", "cluster.claim=results"]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = plain_environment()
    command = [sys.executable, str(ROOT / "sweeps" / "run.py"), *arguments]
    env = {**kept, **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_batch_script_is_all_that_a_dry_run_prints_and_leaves(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "model=tiny", "batch=1,2", "cluster=slurm", "cluster.cpus=4", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("#!/bin/bash\n#SBATCH --job-name=sweep-")
    assert f"resume={tmp_path}/multirun/" in done.stdout
    assert f"\ncd {tmp_path} || exit 2\n" in done.stdout
    assert " tracking.uri=sqlite:///mlflow.db " in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["+cluster.sbatch.qos=high", "+cluster.sbatch.constraint=a100"], ["--qos=high", "--constraint=a100"]),
        (["cluster.sbatch=--qos high --constraint a100"], ["--qos high", "--constraint a100"]),
        (["cluster.sbatch=[--qos=high,--constraint=a100]"], ["--qos=high", "--constraint=a100"]),
        (["cluster.sbatch='--gres=lscratch:100'", "cluster.gpus=2"], ["--gres=lscratch:100,gpu:2"]),
        (
            [
                "cluster.partition='cpu,long'",
                "cluster.setup=module load cuda/12",
                "cluster.nodes=2-8",
                "cluster.time=1:30:00",
            ],
            ["--partition=cpu,long", "--nodes=2-8", "--time=1:30:00"],
        ),
    ],
)
def test_the_forms_in_which_options_of_slurm_are_typed(tmp_path: Path, arguments: list[str], lines: list[str]) -> None:
    done = run(tmp_path, "model=tiny", "cluster=slurm", *arguments, "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert {f"#SBATCH {line}" for line in lines} <= set(done.stdout.splitlines())
    assert ("\nmodule load cuda/12\n" in done.stdout) == ("cluster.setup=module load cuda/12" in arguments)


def test_a_refused_job_leaves_no_folder_and_what_was_there_before(tmp_path: Path) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    path = f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}"
    done = run(tmp_path, "model=tiny", "cluster=slurm", PATH=path)
    assert done.returncode == 2
    assert "sbatch refused " in done.stderr
    assert "invalid account" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
    folder = tmp_path / "outputs" / "day" / "time"
    write_journal(make_sweep([make_result(), make_result(batch=2)], folder))
    (folder / "job.sh").write_text("before")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(tmp_path, "resume=latest", "cluster=slurm", PATH=path).returncode == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: Socket timed out on send/recv operation' >&2\nexit 1\n")
    done = run(tmp_path, "model=tiny", "cluster=slurm", PATH=path)
    assert done.returncode == 1
    assert "did not report whether it accepted " in done.stderr
    assert len(list(tmp_path.glob("outputs/20*/*/plan.json"))) == 1  # the job may be there, and needs it


def test_no_name_becomes_a_line_of_the_script(tmp_path: Path) -> None:
    folder = tmp_path / "a\n#SBATCH --wrap=evil\n\x1b]0;title\x07"
    folder.mkdir()
    done = run(folder, "model=tiny", "cluster=slurm", "dry_run=true", "hydra.run.dir='quoted\"'")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "the current folder: expected a name without control characters" in done.stderr
    assert "the sweep's folder: expected a name without quotation marks and backslashes" in done.stderr
    assert "\\n#SBATCH --wrap=evil\\n\\x1b]0;title" in done.stderr
    assert "\x1b" not in done.stderr
    assert list(folder.iterdir()) == []
    done = run(tmp_path, "resume='a\x1bb'", *KUBERNETES, "tracking.experiment='a\x1bb'", "dry_run=true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "resume: expected a name without control characters" in done.stderr
    assert "tracking.experiment: expected a name without control characters" in done.stderr


def test_the_manifest_is_all_that_a_dry_run_prints(tmp_path: Path) -> None:
    texts = ["cluster.node_selector={gpu: true,v: 1.30}", "cluster.tolerations=[pool=a:NoSchedule]"]
    done = run(tmp_path, "-m", "model=tiny", "batch=1,2", *KUBERNETES, *texts, "dry_run=true")
    assert done.returncode == 0, done.stderr
    scripts, manifest = yaml.safe_load_all(done.stdout)
    worker = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert worker["nodeSelector"] == {"gpu": "true", "v": "1.30"}
    assert worker["tolerations"] == [{"key": "pool", "operator": "Equal", "value": "a", "effect": "NoSchedule"}]
    assert (scripts["kind"], manifest["kind"]) == ("ConfigMap", "RayJob")
    assert "-m model=tiny batch=1,2 tracking.uri=" in scripts["data"]["run.sh"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "passed_on"),
    [([], ""), (["tracking.uri=http://b"], " tracking.uri=http://b"), (["tracking=mlflow"], None)],
)
def test_a_sweep_on_the_cluster_goes_on_with_its_own_tracking(
    tmp_path: Path, arguments: list[str], passed_on: str | None
) -> None:
    done = run(tmp_path, "resume=sweep-1", *KUBERNETES, *arguments, "dry_run=true", MLFLOW_TRACKING_URI="http://mine")
    assert done.returncode == 0, done.stderr
    scripts, _ = yaml.safe_load_all(done.stdout)
    passed_on = " tracking=mlflow tracking.uri=http://mine" if passed_on is None else passed_on
    assert f"set -- resume=/results/sweep-1{passed_on}\n" in scripts["data"]["run.sh"].replace(" \n", "\n")


def test_a_slurm_job_goes_on_with_the_sweeps_own_tracking(tmp_path: Path) -> None:
    results = [make_result()]
    settings = {"mlflow": {"uri": "http://a", "experiment": "mine"}}
    write_journal(make_sweep(results, tmp_path / "outputs" / "day" / "time", facts={"tracking": settings}))
    done = run(tmp_path, "resume=latest", "cluster=slurm", "dry_run=true", MLFLOW_TRACKING_URI="http://b")
    assert done.returncode == 0, done.stderr
    assert "'tracking.sinks=[mlflow]' tracking.uri=http://a tracking.experiment=mine" in done.stdout
    done = run(tmp_path, "resume=latest", "cluster=slurm", "dry_run=true", "tracking.experiment=other")
    assert "tracking.uri=http://a tracking.experiment=other" in done.stdout


def test_this_machine_is_not_what_trials_elsewhere_must_fit(tmp_path: Path) -> None:
    overrides = ["device.cpus=4096", "model.weights=/there.npy", "cluster.cpus=4096"]
    done = run(tmp_path, "-m", "model=tiny", "batch=two", *overrides, *KUBERNETES, "dry_run=true")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: batch=two: expected a whole number. Received: 'two'."]
    done = run(tmp_path, "-m", "model=tiny", "batch=0", *overrides, *KUBERNETES, "dry_run=true")
    assert done.stderr.splitlines() == ["error: batch=0: expected at least 1. Received: 0."]


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (Slurm(cpus=8, gpus=2), []),
        (Slurm(gpus=2), []),
        (RayJob(), []),
        (
            Slurm(cpus=4, gpus=1),
            ["device.cpus=8 asks for 8 cores", "asks for 2 GPUs and a node of cluster=slurm"],
        ),
        (Kubernetes(cpus=8), ["asks for 2 GPUs and a node of cluster=kubernetes has none"]),
    ],
)
def test_a_trial_must_fit_what_is_asked_for(options: BatchJob, sentences: list[str]) -> None:
    problems = options.node().misses(TRIAL)
    assert len(problems) == len(sentences)
    for problem, sentence in zip(problems, sentences, strict=True):
        assert sentence in problem


def test_kubectl_is_given_the_manifest(tmp_path: Path) -> None:
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\ncat > {tmp_path}/taken\n')
    kubectl.chmod(0o755)
    path = f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
    done = run(tmp_path, "model=tiny", "batch=4", *KUBERNETES, "cluster.namespace=lab", PATH=path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "said").read_text() == "apply --filename -\n"
    _, manifest = yaml.safe_load_all((tmp_path / "taken").read_text())
    assert f"kubectl get rayjob {manifest['metadata']['name']} --namespace lab" in done.stdout.replace("\n", " ")
    assert not (tmp_path / "outputs").exists()
    kubectl.write_text("#!/bin/sh\necho no such namespace >&2\nexit 1\n")
    done = run(tmp_path, "model=tiny", *KUBERNETES, PATH=path)
    assert (done.returncode, "kubectl did not accept the job: no such namespace" in done.stderr) == (2, True), (
        done.stderr
    )
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (
            ["-m", "batch=0,1", "cluster=kubernetes", "cluster.cpus=2", "device.cpus=4"],
            ["batch=0: ", "cluster.image: expected", "device.cpus=4 asks for 4 cores and a node of cluster=kubernetes"],
        ),
        (["cluster=ray_job", "fail_fast=0"], ["cluster.address: expected the cluster's dashboard", "fail_fast=0: "]),
        (["cluster=ray_job", "cluster.addres=x"], ["cluster has no key 'addres'. Did you mean address?"]),
        (["resume=sweep-1", "cluster=ray_job"], ["cluster.address: expected the cluster's dashboard"]),
        (["resume=latest", *KUBERNETES], ["resume: expected a sweep's name or folder on the cluster=kubernetes."]),
        (["cluster=slurm", "objective=forward/images_per_s"], ["expected a cluster that a sweeper can wait for"]),
        (
            [*KUBERNETES, "tracking.uri=postgresql://me:secret@host/db"],
            ["tracking.uri: expected an address without a password"],
        ),
    ],
)
def test_the_impossible_is_reported_before_anything_is_submitted(
    tmp_path: Path, arguments: list[str], sentences: list[str]
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for sentence in sentences:
        assert sentence in done.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "command"), [(["cluster=slurm"], "sbatch"), (KUBERNETES, "kubectl")], ids=["slurm", "kubernetes"]
)
def test_where_there_is_nobody_to_submit_to(tmp_path: Path, arguments: list[str], command: str) -> None:
    (tmp_path / "bin").mkdir()
    done = run(tmp_path, "model=tiny", *arguments, PATH=str(tmp_path / "bin"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"expected the command {command} here" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_what_only_this_folder_knows_is_refused_for_a_cluster_that_does_not_see_it(tmp_path: Path) -> None:
    overrides = ["task=finetune", "task.data=photos", "model.weights=~/w.npy", "task.labels=/names.txt"]
    done = run(tmp_path, "model=alexnet", "model._target_=in_the.image", *overrides, *KUBERNETES, "dry_run=true")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: task.data=photos: expected an absolute path, as the nodes of cluster=kubernetes see it. Received: a "
        "relative one."
    ]
    done = run(tmp_path, f"--config-dir={tmp_path}", "model=tiny", *KUBERNETES, "dry_run=true")
    assert done.returncode == 2
    assert f"error: --config-dir={tmp_path}: expected this project's own conf/" in done.stderr


def test_slurms_targets_are_imported_where_the_job_has_the_same_environment(tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text("import no_such_package\ndef net(): ...\n")
    job = ["model._target_=my_nets.net", "cluster=slurm", "dry_run=true"]
    done = run(tmp_path, *job)
    assert done.returncode == 2
    assert "expected a callable that can be imported here. Received: ModuleNotFoundError" in done.stderr
    done = run(tmp_path, *job, "cluster.container='apptainer exec x.sif'")
    assert done.returncode == 0, done.stderr
    assert "The job checks this again" in " ".join((done.stdout + done.stderr).split())
