from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose

from sweeps.identity import origin
from sweeps.request import schema
from sweeps.tasks.pictures import image_paths
from sweeps.typed import input_paths
from tests.support.sweep_command import journal, only_sweep, run
from tracking.record import Sweep, Trial

QUICK = ("cluster=inline", "tracking=none", "calibrate=false", "protocol=classic", "protocol.burn_in=1")
QUICK = (*QUICK, "protocol.steps=3", "passes=[forward]")
READER = """
from pathlib import Path
import nets

def small(vocabulary):
    print("words", Path(vocabulary).read_text().strip())
    return nets.build("tiny")
"""


pytestmark = pytest.mark.usefixtures("hydra")


def read(*overrides: str) -> Trial:
    return schema.read(compose("config", list(overrides)))[0]


def test_paths_are_those_of_the_folder_and_the_id_is_that_of_what_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run[1]"
    folder.mkdir()
    (folder / "one.jpg").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(folder)
    classify = read(
        "task=classify",
        "task.images=['*.jpg',./one.jpg,/there/*.jpg]",
        *input_paths.quoted(["task.labels=~/words.txt"]),
    )
    images = classify.task_args["images"]
    assert images[1:] == [f"{folder}/one.jpg", "/there/*.jpg"]
    assert image_paths.matching(images[0]) == [folder / "one.jpg"]
    assert classify.task_args["labels"] == f"{tmp_path}/words.txt"
    finetune = read("task=finetune", "task.data=../photos", "model.weights=w.npy")
    assert (finetune.task_args["data"], finetune.weights) == (f"{folder}/../photos", f"{folder}/w.npy")
    typed = replace(finetune, weights="w.npy", task_args={**finetune.task_args, "data": "../photos"}, as_typed={})
    assert finetune.trial_id == typed.trial_id  # as older versions had it
    monkeypatch.chdir(tmp_path)
    elsewhere = read("task=finetune", "task.data=../photos", "model.weights=w.npy")
    assert elsewhere.weights == f"{tmp_path}/w.npy"
    assert elsewhere.trial_id == finetune.trial_id
    assert read("model.weights=/w.npy").as_typed == {}
    saved = read("model=file", "model.path=nets/my.keras")
    assert (saved.path, saved.as_typed) == (f"{tmp_path}/nets/my.keras", {"model.path": "nets/my.keras"})
    assert saved.trial_id == replace(saved, path="/there/my.keras").trial_id
    assert Trial.from_json(json.loads(json.dumps(finetune.to_json()))) == finetune


def test_homes_are_quoted_for_hydra_where_a_path_is_expected() -> None:
    given = ["model.weights=~/a.npy,~/b c.npy", "task.images=[~/a.jpg,'~/b.jpg',x~y]", "~model.weights", "x=~/y"]
    assert input_paths.quoted(given) == [
        "model.weights='~/a.npy','~/b c.npy'",
        "task.images=['~/a.jpg','~/b.jpg',x~y]",
        *given[2:],
    ]


def test_a_path_is_shown_as_typed_where_it_means_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trial = read("model.weights=w.npy")
    assert input_paths.as_typed(trial, f"model.weights={tmp_path}/w.npy: no") == "model.weights=w.npy: no"
    monkeypatch.chdir("/")
    assert input_paths.as_typed(trial, f"model.weights={tmp_path}/w.npy: no") == f"model.weights={tmp_path}/w.npy: no"


def test_a_moved_project_has_its_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (new / "outputs" / "day").mkdir(parents=True)
    old.mkdir()
    monkeypatch.chdir(old)
    trial = replace(read("model.weights=w.npy"), task="finetune", task_args={"data": "/photos", "labels": "~/l"})
    planned = Sweep(
        sweep_id="s",
        folder=f"{old}/outputs/day",
        command="",
        created_at=0,
        trials=(trial,),
        facts={origin.FACT: str(old)},
    )
    here = replace(planned, folder=f"{new}/outputs/day")
    assert origin.follow(here, planned).trials == (trial,)  # a copy; what it was made of is still there
    monkeypatch.chdir(tmp_path)
    old.rmdir()
    followed = origin.follow(here, planned)
    assert origin.folder(followed) == new
    assert (followed.trials[0].weights, followed.trials[0].trial_id) == (f"{new}/w.npy", trial.trial_id)


def test_a_plan_of_an_older_version_means_the_folder_above_its_own(tmp_path: Path) -> None:
    trial = Trial(model="tiny", batch=1, weights="w.npy")
    plan = Sweep(sweep_id="s", folder=f"{tmp_path}/multirun/day/time", command="", created_at=0, trials=(trial,))
    (followed,) = origin.follow(plan, plan).trials
    assert (followed.weights, followed.trial_id) == (f"{tmp_path}/w.npy", trial.trial_id)
    elsewhere = replace(plan, folder=f"{tmp_path}/somewhere")
    assert origin.follow(elsewhere, elsewhere).trials[0].weights == f"{Path.cwd()}/w.npy"


def test_a_sweep_that_is_resumed_from_elsewhere_reads_what_it_read_before(tmp_path: Path) -> None:
    """Weights, a net's own module, and a file that it opens by a relative path; with Hydra's own change of folder."""
    begun, other = tmp_path / "begun", tmp_path / "other"
    begun.mkdir()
    other.mkdir()
    (begun / "my_nets.py").write_text(READER)
    (begun / "words.txt").write_text("first")
    (other / "words.txt").write_text("second")
    (other / "my_nets.py").write_text("raise RuntimeError('another one')")
    target = ("model._target_=my_nets.small", "+model.vocabulary=words.txt")
    done = run(begun, *target, "hydra.job.chdir=true", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_sweep(begun)
    (first,) = journal(folder)
    assert "words first" in (folder / "trials" / first["trial_id"] / "log.txt").read_text()
    (folder / "results.jsonl").write_text("")
    done = run(other, f"resume={folder}", "cluster=inline", "tracking=none", "calibrate=false")
    assert done.returncode == 0, done.stdout + done.stderr
    (again,) = journal(folder)
    assert again["trial_id"] == first["trial_id"]
    log = (folder / "trials" / first["trial_id"] / "log.txt").read_text()
    assert "words second" not in log
    assert log.count("words first") >= 1
