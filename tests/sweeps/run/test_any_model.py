"""Models of every kind through the command line: what is fed, that all passes run, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.models import any_kind
from tests.support.sweep_command import QUICK, journal, only_sweep, run

KIND = "tests.support.models.any_kind"
PASSES = ["forward", "forward_backward", "train_step"]
COMMON = ["-m", *QUICK, f"passes=[{','.join(PASSES)}]", "batch=4", "cluster=inline", "tracking=none", "calibrate=false"]


def ran(folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Run one sweep of all passes; return its lines by the name of their model, all of which are ok."""
    done = run(folder, *COMMON, *arguments)
    lines = journal(only_sweep(folder))
    assert [line["error"] for line in lines if line["status"] != "ok"] == [], done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    for line in lines:
        assert list(line["passes"]) == PASSES
        assert all(len(timed["step_s"]) == 3 for timed in line["passes"].values())
        assert all("nonfinite_outputs" not in reason for reason in line["quality"])
    return {line["trial"]["model"]: line for line in lines}


def fed(line: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facts about a trial's inputs, by name."""
    facts: dict[str, dict[str, Any]] = line["host"]["in_force"]["inputs"]
    return facts


def in_step(line: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about a trial's training step."""
    facts: dict[str, Any] = line["host"]["in_force"]["train_step"]
    return facts


def targets(*names: str) -> str:
    return f"model._target_={','.join(f'{KIND}.{name}' for name in names)}"


def test_models_that_state_their_inputs(tmp_path: Path) -> None:
    names = ("two_inputs", "by_name", "tokens", "five_outputs", "custom_layer", "compiled")
    lines = ran(tmp_path, targets(*names))
    assert list(lines) == list(names)
    assert {name: each["shape"] for name, each in fed(lines["two_inputs"]).items()} == {"one": [4, 8], "other": [4, 4]}
    by_name = fed(lines["by_name"])
    assert {name: each["dtype"] for name, each in by_name.items()} == {
        "age": "float32",
        "mask": "bool",
        "words": "int64",
    }
    assert (by_name["mask"]["lowest"], by_name["mask"]["highest"]) == (0, 1)
    for words in (by_name["words"], fed(lines["tokens"])["words"]):
        assert 0 <= words["lowest"] < words["highest"] < any_kind.WORDS
        assert words["distinct"] > any_kind.WORDS / 3
        assert words["length"] == any_kind.LENGTH
    assert in_step(lines["compiled"])["optimizer"]["class"] == "RMSprop"
    assert in_step(lines["custom_layer"])["optimizer"]["class"] == "SGD"


def test_sizes_that_models_leave_open(tmp_path: Path) -> None:
    lines = ran(tmp_path, targets("lstm", "conv1d", "open_tokens"), "inputs.length=9")
    assert fed(lines["lstm"])["series"]["shape"] == [4, 9, 6]
    assert fed(lines["conv1d"])["signal"]["shape"] == [4, 9, 2]
    assert fed(lines["open_tokens"])["words"]["shape"] == [4, 9]
    assert [fed(line) for line in lines.values() if "length" not in next(iter(fed(line).values()))] == []


def test_images_of_any_size_and_models_that_say_nothing(tmp_path: Path) -> None:
    lines = ran(
        tmp_path, targets("open_image", "subclassed", "unbuilt", "own_step", "adversarial"), "inputs.shape=[10,12,3]"
    )
    assert [next(iter(fed(line).values()))["shape"] for line in lines.values()] == [[4, 10, 12, 3]] * 5
    assert in_step(lines["own_step"])["optimizer"]["class"] == "Adam"
    assert [each["class"] for each in in_step(lines["adversarial"])["optimizer"]] == ["Adam", "RMSprop"]
    assert in_step(lines["adversarial"])["targets"] == []
    assert lines["subclassed"]["layers"][0]["name"].startswith("conv2d")
    assert "(samples/s" not in (only_sweep(tmp_path) / "report.html").read_text()


def test_a_batch_of_ones_own_with_its_classes(tmp_path: Path) -> None:
    lines = ran(tmp_path, targets("open_image"), f"inputs._target_={KIND}.batch")
    assert fed(lines["open_image"])["image"]["shape"] == [4, 10, 10, 3]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, while it saves
def test_saved_models(tmp_path: Path) -> None:
    paths = any_kind.save(tmp_path)
    lines = ran(tmp_path, "model=file", f"model.path={','.join(map(str, paths.values()))}")
    assert list(lines) == ["a", "b", "c"]
    assert [fed(line)["image"]["shape"] for line in lines.values()] == [[4, 8, 8, 3]] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            [targets("open_image")],
            "any_kind.open_image: expected inputs of known size. Received: image, float32 [None,None,3]. Set inputs.sh",
        ),
        ([targets("lstm")], "Received: series, float32 [None,6]. Set inputs.length=N or inputs.shape=[N,6]"),
        ([targets("subclassed")], "Received: subclassed, a Subclassed that was not built. Set inputs.shape=[N,...]"),
        (
            [targets("two_inputs"), "+inputs.othre.shape=[4]"],
            "inputs.othre: the model has no input 'othre'. Did you mean other or one? Its inputs: one, other",
        ),
        (
            [targets("text")],
            "expected inputs of floats, whole numbers or truth values. Received: words, string []. Set inputs._target_",
        ),
        (
            [targets("unbounded")],
            "the range of count, int32 [3] is not known: the net does not look it up. Set +inputs.",
        ),
        (
            [targets("tokens"), "inputs.high=51"],
            "inputs.words: expected low of at least 0 and high of at most 50, as many as the net looks up among",
        ),
        (
            [targets("two_inputs"), "inputs.shape=[4]"],
            "inputs.shape: expected a model with one input. Received: one with",
        ),
        (
            [targets("tokens"), "inputs.length=9"],
            "expected functional to have an input with one open axis. Received: wo",
        ),
    ],
)
def test_what_cannot_be_fed_is_refused_in_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    planned = run(tmp_path, *COMMON, *arguments, "dry_run=true", COLUMNS="400")
    assert planned.returncode == 2, planned.stdout + planned.stderr
    assert sentence in planned.stderr
    assert len(planned.stderr.splitlines()) == 1
    done = run(tmp_path, *COMMON, *arguments)
    (line,) = journal(only_sweep(tmp_path))
    assert (done.returncode, line["status"], line["passes"]) == (1, "error", {})
    assert line["error"]["message"] in planned.stderr
