"""Two sweeps to compare, and the command that compares them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.support.records import make_result, make_sweep, write_journal
from tracking import compare
from tracking.record import Result

SCRIPT = Path(compare.__file__)


def keep(results: Sequence[Result], folder: str, sweep_id: str = "a-sweep") -> Path:
    """Write a sweep of these results into `folder`, which is returned."""
    place = Path(folder)
    results = [replace(result, sweep_id=sweep_id) for result in results]
    write_journal(make_sweep(results, place), results)
    return place


def side(factor: float, seed: int, batches: Sequence[int] = (1, 2), **fields: object) -> list[Result]:
    """Return four repeats per batch size, `factor` times as slow as the first side; `fields` go to make_result."""
    return [
        make_result("vgg16", b, mean=0.1 * b * factor, noise=0.005, repeat=r, seed=seed, **fields)  # type: ignore[arg-type]
        for b in batches
        for r in range(4)
    ]


def command(*arguments: str, columns: int = 140) -> tuple[int, str]:
    """Return the exit code of `python tracking/compare.py ...` and its standard output and error."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr
