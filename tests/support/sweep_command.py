"""Runs sweeps through the command line, as a user does, and reads what they leave."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "sweeps" / "run.py")]
QUICK = ["protocol=classic", "protocol.steps=3", "protocol.burn_in=1"]


def plain_environment() -> dict[str, str]:
    """Return this process' environment without the settings of MLflow, Ray and pytest."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_", "PYTEST"))}


def terminal_environment() -> dict[str, str]:
    """Return a plain environment with a terminal of 160 columns, so that sentences stay on one line."""
    return plain_environment() | {"COLUMNS": "160"}


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `sweeps/run.py` with these arguments in `folder`, with these further environment variables."""
    env = terminal_environment() | environment
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False, env=env)


def only_sweep(folder: Path) -> Path:
    """Return the results folder of the one sweep that was run in `folder`."""
    (plan,) = [*folder.glob("multirun/*/*/plan.json"), *folder.glob("outputs/*/*/plan.json")]
    return plan.parent


def journal(sweep: Path) -> list[dict[str, Any]]:
    """Return the journal's lines in a sweep's folder, parsed."""
    return [json.loads(line) for line in (sweep / "results.jsonl").read_text().splitlines()]


def running_in(folder: Path) -> list[psutil.Process]:
    """Return the processes that run in `folder`: the driver and everything it started, Ray included."""
    running = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd().startswith(str(folder)):
                running.append(process)
    return running


def left_in(folder: Path) -> list[str]:
    """Return the processes in `folder` that do not end by themselves within a minute."""
    psutil.wait_procs(running_in(folder), timeout=60)
    return [str(process) for process in running_in(folder)]
