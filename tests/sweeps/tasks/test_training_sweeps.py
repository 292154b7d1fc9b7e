"""`train_step` as a user meets it: through the command line, with every compiler and precision, and its refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.sweep_command import journal, only_sweep, run

QUICK = ["cluster=inline", "tracking=none", "calibrate=false", "protocol=classic", "protocol.steps=6"]


def sweep(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    done = run(folder, "-m", *arguments, *QUICK, "protocol.burn_in=2")
    assert done.returncode == 0, done.stdout + done.stderr
    return list(journal(only_sweep(folder)))


def test_every_compiler_and_precision_takes_the_whole_step(tmp_path: Path) -> None:
    results = sweep(tmp_path, "model=tiny", "batch=2", "passes=[train_step]", "compile=graph,xla,eager",
                    "precision=float32,float16,bfloat16", "optimizer=adam,muon")  # fmt: skip
    assert len(results) == 18
    for result in results:
        trial, measured = result["trial"], result["passes"]["train_step"]
        facts = result["host"]["in_force"]["train_step"]
        assert facts["optimizer"]["class"] == {"adam": "Adam", "muon": "Muon"}[trial["optimizer"]["name"]]
        assert facts["optimizer"].get("loss_scaling", False) == (trial["precision"] == "float16")
        assert ("skipped_updates" in measured["evidence"]) == (trial["precision"] == "float16")
        assert measured["evidence"]["nonfinite_weights"] == 0
        assert not any(reason.startswith(("work", "not finite", "skipped")) for reason in result["quality"])
        if trial["optimizer"]["name"] == "adam":
            assert measured["flops"] > 0


def test_models_that_know_how_to_train_are_left_to_do_so(tmp_path: Path) -> None:
    trained = "tests.support.models.trained"
    results = sweep(tmp_path, f"model._target_={trained}.compiled,{trained}.of_its_own,{trained}.pair", "batch=2",
                    "passes=[forward,forward_backward,train_step]")  # fmt: skip
    facts = {result["trial"]["model"]: result["host"]["in_force"]["train_step"] for result in results}
    assert facts["compiled"]["optimizer"] == {"class": "Nadam", "learning_rate": 0.125}
    assert facts["of_its_own"]["train_step"] == "Own's own"
    assert facts["pair"]["loss"] == ["BinaryCrossentropy", "SparseCategoricalCrossentropy"]
    assert all(list(result["passes"]) == ["forward", "forward_backward", "train_step"] for result in results)


def test_a_loss_of_ones_own_is_tried_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import keras\nimport no_such_package\ndef loss(y, p): return keras.ops.mean((y - p) ** 2)\n"
    )
    arguments = ["model=tiny", "batch=2", "passes=[train_step]", "loss=mine.loss"]
    done = run(tmp_path, *arguments, *QUICK)
    assert done.returncode == 2
    assert "loss=mine.loss: expected a callable that can be imported here. Received: ModuleNotFoundError" in done.stderr
    (tmp_path / "mine.py").write_text("import keras\ndef loss(y, p, z): return keras.ops.mean((y - p) ** 2)\n")
    done = run(tmp_path, *arguments, *QUICK)
    assert done.returncode == 2
    assert "expected mine.loss to take targets and outputs. Received: missing a required argument: 'z'" in done.stderr
    (tmp_path / "mine.py").write_text("import keras\ndef loss(y, p): return keras.ops.mean((y - p) ** 2)\n")
    done = run(tmp_path, *arguments, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
