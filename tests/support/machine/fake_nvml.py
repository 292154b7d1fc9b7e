"""NVIDIA's library without a GPU: a shared library with NVML's interface, compiled from `fake_nvml.c`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

QUIET = {"sm_mhz": 1980, "power_mw": 300_000, "temperature_c": 50, "energy_mj": 1_000_000, "processes": 1}
QUIET |= {"throttles": 0, "free_bytes": 70 << 30}
"""Two cards that are left alone and run as fast as they can."""


def environment(folder: Path, state: dict[str, int]) -> dict[str, str]:
    """Compile the library into `folder`; a process with this environment has two cards in this state."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = folder / "libnvidia-ml.so.1"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
    write(folder / "state", state)
    return os.environ | {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(folder / "state")}


def write(path: str | Path, state: dict[str, int]) -> None:
    Path(path).write_text("".join(f"{name} {value}\n" for name, value in state.items()), encoding="ascii")
