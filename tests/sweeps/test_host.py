from __future__ import annotations

import os
import platform
import socket
from importlib.metadata import version

import pytest

from sweeps import host


def test_facts_tell_the_machine_and_the_versions() -> None:
    facts = host.facts()
    assert facts["hostname"] == socket.gethostname()
    assert facts["cores"] == sorted(os.sched_getaffinity(0))
    assert facts["cpu_model"]
    assert facts["memory_gb"] > 0
    assert facts["python"] == platform.python_version()
    for package in ("tensorflow", "keras", "ray", "mlflow"):
        assert facts[package] == version(package)


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("GPU-1,GPU-2,GPU-3", 3)])
def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert host.gpu_count() == count
