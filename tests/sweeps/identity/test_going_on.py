"""What a second command may do to an existing sweep, and a sweeper to one that has begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sweep_command import QUICK, journal, only_sweep, run

INLINE = ("cluster=inline", "calibrate=false", "tracking=csv")


def test_a_sweep_that_timed_out_goes_on_with_more_time_and_nothing_else_is_taken(tmp_path: Path) -> None:
    grid = ["-m", "model=tiny", "batch=1,2", *QUICK]
    assert run(tmp_path, *grid, "timeout_s=0.01", *INLINE).returncode == 1
    sweep = only_sweep(tmp_path)
    before = journal(sweep)
    assert [line["status"] for line in before] == ["timeout", "timeout"]

    again = run(tmp_path, *grid, "resume=latest", *INLINE)
    assert again.returncode == 2
    assert "expected a command without a grid and without keys of trials" in again.stderr
    assert "Received: model=tiny, batch=1,2, protocol=classic" in again.stderr
    several = run(tmp_path, "-m", "resume=latest", "rerun=null,failed", *INLINE)
    assert several.returncode == 2
    assert "Received: a grid." in several.stderr
    other = run(tmp_path, *grid, f"hydra.sweep.dir={sweep}", *INLINE)
    assert other.returncode == 2
    assert f"Received: {sweep}, which holds a sweep. resume={sweep} continues that one" in other.stderr
    assert journal(sweep) == before

    done = run(tmp_path, "resume=latest", "rerun=failed", "timeout_s=200", *INLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    after = journal(sweep)[2:]
    assert [line["status"] for line in after] == ["ok", "ok"]
    assert [line["trial"]["timeout_s"] for line in after] == [200.0, 200.0]
    assert [line["trial_id"] for line in after] == [line["trial_id"] for line in before]


def test_a_point_that_cannot_run_ends_no_sweep_that_has_begun_nor_its_resumption(tmp_path: Path) -> None:
    sizes = ["model=alexnet_conv", "passes=[forward]", "hydra.sweeper.max_batch_size=1", "model.image_size=96,20,112"]
    assert run(tmp_path, "-m", *sizes, "batch=1", "timeout_s=0.01", *INLINE, *QUICK).returncode == 1
    sweep = only_sweep(tmp_path)
    lines = journal(sweep)
    assert [(line["trial"]["model_args"]["image_size"], line["status"]) for line in lines] == [
        (96, "timeout"),
        (20, "infeasible"),
        (112, "timeout"),
    ]
    assert lines[1]["error"]["kind"] == "Infeasible"
    assert "expected image_size of at least 67" in lines[1]["error"]["message"]
    assert "could not run" in (sweep / "report.html").read_text()
    done = run(tmp_path, "resume=latest", "rerun=failed", "timeout_s=200", *INLINE)
    assert done.returncode == 1, done.stdout + done.stderr  # one of its trials is not ok
    assert [line["status"] for line in journal(sweep)[3:]] == ["ok", "ok"]


def test_an_optimising_sweep_begins_with_the_points_that_can_run(tmp_path: Path) -> None:
    grid = ["model=alexnet_conv", "passes=[forward]", "batch=1", "model.image_size=20,96"]
    done = run(tmp_path, "-m", *grid, "objective=forward/images_per_s", *INLINE, *QUICK)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line["status"] for line in journal(only_sweep(tmp_path))] == ["ok", "infeasible"]
    none = run(tmp_path, "-m", *grid[:-1], "model.image_size=20,24", "objective=forward/images_per_s", *INLINE, *QUICK)
    assert none.returncode == 2
    assert "Received: image_size=20" in none.stderr
    assert "Received: image_size=24" in none.stderr


def test_an_optimising_sweeper_needs_an_objective(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="hydra-optuna-sweeper is not installed")
    done = run(tmp_path, "-m", "hydra/sweeper=optuna", "model=tiny", "batch=choice(1,2)", *INLINE, *QUICK)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "objective: expected the figure that this sweeper optimises" in done.stderr


def test_a_typo_that_comes_up_late_is_no_exit_code_of_nothing_ran(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "model=tiny", "batch=1,two", "hydra.sweeper.max_batch_size=1", *INLINE, *QUICK)
    assert done.returncode == 1
    assert "batch=two: expected a whole number" in done.stderr
    assert len(journal(only_sweep(tmp_path))) == 1
