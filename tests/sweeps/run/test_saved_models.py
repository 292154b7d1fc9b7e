"""Saved models through the command line: timed, planned, and refused before anything in them is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.models import saved
from tests.support.sweep_command import QUICK, journal, only_sweep, run

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, while it saves
HERE = ("cluster=inline", "tracking=none", "calibrate=false", "batch=2", *QUICK)


def save_all(folder: Path) -> None:
    folder.mkdir()
    model = saved.small(compiled=True)
    model.save(folder / "my.keras")
    model.save(folder / "my.h5")
    model.export(folder / "exported", verbose=False)


def test_each_kind_is_timed_in_both_passes_and_resumed_from_elsewhere(tmp_path: Path) -> None:
    save_all(tmp_path / "nets")
    done = run(tmp_path, "-m", "model=file", "model.path=nets/my.keras,nets/my.h5,nets/exported", *HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep(tmp_path)
    lines = journal(sweep)
    assert [line["status"] for line in lines] == ["ok"] * 3
    assert [line["trial"]["model"] for line in lines] == ["my", "my", "exported"]
    assert all(set(line["passes"]) == {"forward", "forward_backward"} for line in lines)
    notes = [line["host"]["in_force"]["forward_backward"].get("graph", "") for line in lines]
    assert notes[:2] == ["", ""]
    assert "its dropout stays off" in notes[2]
    assert "warning: model.path=nets/exported: a SavedModel holds the graph of inference" in done.stderr
    assert "model.path=nets/my.keras: a SavedModel" not in done.stderr
    (tmp_path / "elsewhere").mkdir()
    kept = (sweep / "results.jsonl").read_text().splitlines(keepends=True)
    (sweep / "results.jsonl").write_text("".join(kept[:-1]))
    done = run(tmp_path / "elsewhere", f"resume={sweep}", "cluster=inline", "tracking=none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["status"] for line in journal(sweep)] == ["ok"] * 3


def test_the_plan_says_what_a_file_will_take_and_layers_follow_the_precision(tmp_path: Path) -> None:
    save_all(tmp_path / "nets")
    done = run(tmp_path, "model=file", "model.path=nets/my.keras", "dry_run=true", *HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.strip().startswith("my")]
    assert "?" not in row
    assert " MB" in row
    done = run(tmp_path, "-m", "model=file", "model.path=nets/my.keras,nets/my.h5", "precision=bfloat16", *HERE)
    assert done.returncode == 0, done.stdout + done.stderr


def point_at(module: str, name: str) -> Any:
    def change(description: dict[str, Any]) -> None:
        function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
        description["config"]["layers"][-1]["config"]["activation"] = function

    return change


def test_hostile_files_are_refused_together_and_nothing_in_them_is_done(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')\ndef run(x): ...\n")
    for name in ("sly.keras", "sly.h5"):
        saved.with_lambda(canary).save(tmp_path / name)
    for name, module, function in (("system", "os", "system"), ("evil", "evil", "run")):
        saved.small().save(tmp_path / f"{name}.keras")
        saved.edited(tmp_path / f"{name}.keras", point_at(module, function))
    saved.of_graph(tmp_path / "writer", _writes(canary))
    (tmp_path / "cut.keras").write_bytes((tmp_path / "sly.keras").read_bytes()[:-40])
    canary.unlink(missing_ok=True)
    paths = ("sly.keras", "sly.h5", "system.keras", "evil.keras", "writer", "cut.keras")
    done = run(tmp_path, "-m", "model=file", f"model.path={','.join(paths)}", *HERE)
    assert done.returncode == 2
    assert not canary.exists()
    assert not list(tmp_path.glob("multirun/*/*/plan.json"))
    sentences = {path: [line for line in done.stderr.splitlines() if f"model.path={path}: " in line] for path in paths}
    assert all(len(lines) == 1 for lines in sentences.values()), done.stderr
    for path in paths[:-1]:
        assert "model.trust=true" in sentences[path][0]
    assert "os.system in 'dense'" in sentences["system.keras"][0]
    done = run(tmp_path, "model=file", "model.path=sly.keras", "model.trust=true", *HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert canary.exists()


def _writes(canary: Path) -> Any:
    import tensorflow as tf

    def call(image: Any) -> Any:
        tf.io.write_file(str(canary), "x")
        return image

    return call


def test_what_is_no_saved_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "my.pt").touch()
    done = run(tmp_path, "-m", "model=file", "model.path=no.keras,empty,my.pt,empty.weights.h5", *HERE)
    assert done.returncode == 2
    for words in (
        "model.path=no.keras: expected a file. Received: a path where there is none.",
        "model.path=empty: expected a whole model",
        "Received: a folder without saved_model.pb.",
        "Received: a file with another suffix.",
        "Received: weights only; set model=NAME model.weights=empty.weights.h5 with the net's name.",
    ):
        assert words in done.stderr
    done = run(tmp_path, "model=vgg16", "model.path=my.keras", *HERE)
    assert done.returncode == 2
    assert "model.path=my.keras: model has no key 'path'." in done.stderr
    assert "model=file has it." in done.stderr
