"""The numbers of rounds that `benchmarks/faults/outage.py` accepts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("rounds", ["0", "4", "-6"])
def test_only_rounds_with_every_order_alike(rounds: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults" / "outage.py"), f"--rounds={rounds}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"--rounds: expected a multiple of 6, all orders alike. Received: {rounds}.\n")
