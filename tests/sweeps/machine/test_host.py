from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sweeps.machine import host
from tests.support.machine import fake_nvml
from tests.support.machine.cgroups import limited

ROOT = Path(__file__).resolve().parents[3]
CARD = "Fake H100 80GB HBM3"


def test_facts_tell_the_machine_and_the_versions() -> None:
    facts = host.facts()
    assert facts["hostname"] == socket.gethostname()
    assert facts["cores"] == sorted(os.sched_getaffinity(0))
    assert facts["cpu_model"]
    assert facts["memory_gb"] > 0
    assert facts["python"] == platform.python_version()
    for package in ("tensorflow", "keras", "ray", "mlflow"):
        assert facts[package] == version(package)


def test_free_memory_is_what_the_container_leaves() -> None:
    with limited(memory_mb=700) as within:
        code = "from sweeps.machine import host; print(host.free_memory(), host.facts()['memory_limit_mb'])"
        done = subprocess.run(
            [*within, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
    free, limit = map(int, done.stdout.split())
    assert limit == 700
    assert 500 < free / 2**20 < 700


@pytest.mark.parametrize(("visible", "names"), [("0", [CARD]), ("0,1", [CARD, CARD]), ("", [])])
def test_gpus_are_reported_with_driver_and_cuda(tmp_path: Path, visible: str, names: list[str]) -> None:
    env = fake_nvml.environment(tmp_path, fake_nvml.QUIET) | {"CUDA_VISIBLE_DEVICES": visible}
    code = "import json; from sweeps.machine import host; print(json.dumps(host.gpu_facts()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    wanted = {"gpu": ", ".join(names), "gpu_driver": "555.42", "cuda": "12.5"}
    assert facts == (wanted if names else {})


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("GPU-1,GPU-2,GPU-3", 3)])
def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert host.gpu_count() == count


@pytest.mark.parametrize(("visible", "ids"), [(None, ("0", "1")), ("2, 5,6", ("2", "5")), ("GPU-1", ("GPU-1",))])
def test_a_trial_gets_gpus_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, ids: tuple[str, ...]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert host.gpu_ids(2) == ids


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA GeForce RTX 5090", "GeForce-RTX-5090"),
        ("NVIDIA L4", "L4"),
    ],
)
def test_a_card_has_the_name_that_ray_gives_it(name: str, short: str) -> None:
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    assert host.accelerator_of(name) == short == NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(name)
