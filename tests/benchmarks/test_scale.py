"""The scripts of `benchmarks/scale/` on small numbers, and what the simulation must give at its limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale.simulation import LENGTHS_S, NODES, simulate, table

ROOT = Path(__file__).resolve().parents[2]


def _output(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "scale" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_real_dispatch_runs_on_nodes_without_processes() -> None:
    plain, display = _output("driver.py", "--trials=200", "--nodes=4", "--cores=8", "--driver").splitlines()[-2:]
    assert plain.startswith("no terminal  checks and plan ")
    assert display.startswith("terminal     checks and plan ")
    assert " ms per result " in plain


def test_every_point_of_a_grid_becomes_a_trial() -> None:
    theirs, ours = _output("enumeration.py", "--points=4", "--hydra=2").splitlines()
    assert theirs.split()[:4] == ["Hydra's", "own", "2", "points"]
    assert ours.split()[:4] == ["this", "system", "4", "points"]


def test_a_driver_that_takes_no_time_keeps_its_node_busy() -> None:
    wall_s, share = simulate(trials=100, nodes=1, length_s=10.0, driver_s=0.0)
    assert share == pytest.approx(1.0)
    assert wall_s == pytest.approx(1000.0, rel=0.1)


def test_a_slow_driver_is_the_limit() -> None:
    wall_s, share = simulate(trials=1000, nodes=100, length_s=1.0, driver_s=1.0)
    assert wall_s >= 1000
    assert share == pytest.approx(0.01, rel=0.1)


def test_the_table_has_a_row_for_each_driver_and_length() -> None:
    lines = table(10, {"all sinks": 0.1, "without MLflow": 0.01}).splitlines()
    assert len(lines) == 1 + 2 * len(LENGTHS_S)
    assert lines[0].count("nodes") == len(NODES)
