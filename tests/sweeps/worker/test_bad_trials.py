"""Misbehaving trials beside a good one, through the command line."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
from pathlib import Path

from tests.support.sweep_command import QUICK, journal, only_sweep, run

TRIALS = ("model=tiny", "passes=[forward]", "calibrate=false", "cluster=inline")
Outcome = tuple[str, str]
"""The status of a trial, and the message of its error."""


def run_beside_a_good_one(folder: Path, *targets: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Outcome]]:
    """Run a trial of each target and a good one; return the command and each trial's outcome by its model."""
    done = run(folder, "-m", *TRIALS, f"model._target_={','.join(['null', *targets])}", *QUICK)
    assert done.returncode == 1, done.stdout + done.stderr
    return done, outcomes(folder)


def outcomes(folder: Path) -> dict[str, Outcome]:
    """Return the outcome of each trial by its model, once journal, table and report agree about it."""
    sweep = only_sweep(folder)
    lines = {line["trial"]["model"]: line for line in journal(sweep)}
    with (sweep / "results.csv").open(newline="", encoding="utf-8") as file:
        assert {row["model"]: row["status"] for row in csv.DictReader(file)} == {
            model: line["status"] for model, line in lines.items()
        }
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert all(model in page for model in lines)
    return {model: (line["status"], (line["error"] or {}).get("message", "")) for model, line in lines.items()}


def test_a_trial_that_sends_and_leaves_what_it_may_not(tmp_path: Path) -> None:
    targets = ("tests.support.models.failing.half_a_pair", "tests.support.models.unruly.unknown_kind")
    done, results = run_beside_a_good_one(tmp_path, *targets)
    assert "Traceback" not in done.stdout + done.stderr
    assert results["tiny"] == ("ok", "")
    assert results["half_a_pair"] == ("error", r"half a pair: \ud800, red:")
    assert results["unknown_kind"][0] == "error"
    assert "Did you mean 'metrics'?" in results["unknown_kind"][1]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        query = "select value, count(*) from tags where key = 'status' group by value order by value"
        assert database.execute(query).fetchall() == [("error", 2), ("ok", 1)]


def test_what_a_trial_leaves_that_is_no_file_is_no_artifact(tmp_path: Path) -> None:
    targets = ("tests.support.models.unruly.leaving_links", "tests.support.models.unruly.long_metric")
    _, results = run_beside_a_good_one(tmp_path, *targets)
    assert (results["tiny"][0], results["leaving_links"][0], results["long_metric"][0]) == ("ok", "ok", "error")
    assert "Received: 60000" in results["long_metric"][1]
    (odd,) = (line for line in journal(only_sweep(tmp_path)) if line["trial"]["model"] == "leaving_links")
    assert any("files: secret (a link out of the folder)" in reason for reason in odd["quality"])
    kept = [path.name for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    assert {"good.txt", "within"} <= set(kept)
    assert not {"secret", "above", "loop", "fifo", "passwd"} & set(kept)
