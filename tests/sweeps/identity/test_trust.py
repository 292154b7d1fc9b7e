"""What `resume=` runs of a plan that may be somebody else's: through the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.identity import resume
from sweeps.typed.arguments import Arguments
from tests.support.records import make_result, make_sweep
from tests.support.sweep_command import journal, run
from tests.tracking.sinks.test_trust import give_away, only_root
from tracking.folder.journal import Journal
from tracking.record import Trial
from tracking.schema.protocols import Classic

INLINE = ("cluster=inline", "calibrate=false", "tracking=none")


def typed(*words: str) -> Arguments:
    return Arguments(program="sweeps/run.py", words=words)


def plan_of(folder: Path, targets: Sequence[str | None], facts: dict[str, Any] | None = None) -> list[Trial]:
    base = make_result("tiny").trial
    trials = [
        replace(
            base, model="mine", batch=batch, target=target, passes=("forward",), protocol=Classic(steps=3, burn_in=1)
        )
        for batch, target in enumerate(targets, start=1)
    ]
    with Journal(folder) as kept:
        kept.write_plan(replace(make_sweep([], folder, facts=facts or {}), trials=tuple(trials)))
    return trials


def test_a_plan_runs_nothing_of_the_standard_library(tmp_path: Path) -> None:
    plan_of(tmp_path / "sweep", ["os.system", "subprocess.call", "builtins.eval"])
    done = run(tmp_path, "resume=sweep", *INLINE)
    assert done.returncode == 2
    for target in ("os.system", "subprocess.call", "builtins.eval"):
        assert f"Received: {target}, from the standard library's" in done.stderr
    assert not (tmp_path / "sweep" / "results.jsonl").exists()


def test_a_loss_of_a_plan_is_treated_as_its_nets_are(tmp_path: Path) -> None:
    trials = [Trial(model="tiny", batch=1, passes=("train_step",), loss=loss) for loss in ("os.system", "mse", "a.b")]
    assert resume.foreign_parts(trials) == ["os.system", "a.b"]
    refusals = resume.unknown_parts(trials, tmp_path)
    assert len(refusals) == 2
    assert "Received: os.system, from the standard library's os" in refusals[0]
    assert "There is no module 'a'" in refusals[1]


@only_root
def test_a_strangers_plan_runs_only_where_this_user_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "multirun" / "sweep"
    (trial,) = plan_of(folder, ["strangers.net"])
    (tmp_path / "strangers.py").write_text(
        "import pathlib, tests.support.models.healthy\n"
        "def net(**_):\n    pathlib.Path('ran').touch()\n    return tests.support.models.healthy.small()\n"
    )
    (folder / "trials" / trial.trial_id).mkdir(parents=True)
    give_away(folder)
    before = sorted(folder.rglob("*"))
    for what in ("latest", str(folder)):
        done = run(tmp_path, f"resume={what}", "fail_fast=0", *INLINE)
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"resume={what}: expected a sweep of this user's own, or trust=true. Received: {folder}" in done.stderr
        assert "belongs to the user nobody, and its plan says what runs with this user's rights: strangers.net" in (
            done.stderr
        )
        assert "fail_fast=0" in done.stderr  # every problem is reported together
    assert sorted(folder.rglob("*")) == before
    assert not list(tmp_path.rglob("ran"))
    done = run(tmp_path, "resume=latest", "trust=true", *INLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Runs     strangers.net, as {folder} says" in done.stdout
    assert [line["status"] for line in journal(folder)] == ["ok"]
    done = run(tmp_path, "trust=true", *INLINE)
    assert done.returncode == 2
    assert "trust=true: expected resume= with it: latest, a folder or a sweep id." in done.stderr


def test_doubts_name_addresses_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    kept = {"tracking": {"mlflow": {"uri": "http://tracker.example", "experiment": "sweeps"}}}
    trials = plan_of(tmp_path / "sweep", [None], kept)
    (tmp_path / "sweep").rename(tmp_path / "moved")
    plan, folder = resume.find("moved", tmp_path)
    tracking = {"mlflow": {"uri": "http://tracker.example"}}
    uri = resume.planned_address(plan, tracking, typed("resume=moved"))
    assert uri == "http://tracker.example"
    assert resume.planned_address(plan, tracking, typed("tracking.uri=http://tracker.example")) is None
    assert resume.planned_address(plan, {"mlflow": {"uri": "http://mine"}}, typed()) is None
    (doubt,) = resume.doubts(plan, folder, uri, trials)
    assert "was copied or moved" in doubt
    (folder / "trials" / trials[0].trial_id).mkdir(parents=True)
    (folder / "trials" / trials[0].trial_id / "log.txt").symlink_to("/elsewhere")
    (doubt,) = resume.doubts(plan, folder, None, trials)
    assert "log.txt is a link to /elsewhere, and results would be written there" in doubt


def test_a_plan_that_was_moved_is_not_trusted_to_run_the_code_of_saved_models(tmp_path: Path) -> None:
    saved = Trial(model="my", batch=1, path="/models/my.keras")
    trusted = replace(saved, model_args={"trust": True})
    assert resume.foreign_parts([saved, trusted]) == [
        "model /models/my.keras",
        "model /models/my.keras, which may run code",
    ]
    plan_of(tmp_path / "sweep", [None])
    plan, folder = resume.find("sweep", tmp_path)
    assert resume.doubts(plan, folder, None, [trusted]) == []
    folder.rename(tmp_path / "moved")
    plan, folder = resume.find("moved", tmp_path)
    assert resume.doubts(plan, folder, None, [saved]) == []
    (doubt,) = resume.doubts(plan, folder, None, [trusted])
    assert doubt.endswith(f"moved there from {tmp_path}/sweep, and runs whatever code is in /models/my.keras")
