"""Sweeps through the command line in real control groups: what is planned, run and reported within their limits."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.machine.cgroups import limited
from tests.support.sweep_command import COMMAND, QUICK, journal, only_sweep, terminal_environment

NET = """
import keras

def hungry():
    kept = bytearray(3 * 2**30)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(len(kept) % 7)])
"""


def run(within: Sequence[str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*within, *COMMAND, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=terminal_environment()
    )


def test_half_a_core_is_one_core_and_one_thread_and_running_out_of_memory_is_the_containers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NET)
    with limited(cores=0.5, memory_mb=1800) as within:
        grid = ["-m", "model=tiny", "model._target_=null,mine.hungry", "batch=1", "protocol.max_seconds=1"]
        done = run(within, tmp_path, *grid, "cluster=inline", "tracking=none", "calibrate=false")
    assert "cpu (1 core; the container's quota is 0.5 and its memory limit is 1800 MB)" in done.stdout, done.stderr
    tiny, hungry = journal(only_sweep(tmp_path))
    assert tiny["status"] == "ok"
    assert len(tiny["host"]["cores"]) == 1
    assert tiny["host"]["in_force"]["forward"]["threads"] == 1
    assert (tiny["host"]["cpu_quota"], tiny["host"]["memory_limit_mb"]) == (0.5, 1800)
    assert any(reason.startswith("quota: the kernel stopped the process in ") for reason in tiny["quality"])
    assert (hungry["status"], hungry["error"]["kind"]) == ("oom", "SIGKILL")
    assert hungry["error"]["message"].endswith("out of memory (the container's limit is 1800 MB)")


def test_the_plan_goes_by_the_containers_limits(tmp_path: Path) -> None:
    with limited(cores=1.5, memory_mb=1500) as within:  # VGG16's trial takes more, a look at it does not
        done = run(within, tmp_path, "-m", "model=vgg16", "batch=1,64", "dry_run=true", *QUICK)
        refused = run(within, tmp_path, "model=tiny", "cluster.cpus=2", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cpu (1 core; the container's quota is 1.5 and its memory limit is 1500 MB)" in done.stdout
    assert "vgg16 at batch 1 on cpu will take about" in done.stderr
    assert "can have 1500 MB" in done.stderr
    assert refused.returncode == 2
    expected = "expected between 1 and 1 cores (the container's quota is 1.5 and its memory limit is 1500 MB)"
    assert expected in refused.stderr
