"""Facts about the machine a trial ran on, gathered in the trial's own process."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import signal
import socket
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from sweeps.machine import cgroup, environment, nvml

PACKAGES = ("tensorflow", "keras", "numpy", "ray", "mlflow", "hydra-core")
_MODEL = re.compile(r"\w+\s+((?:[A-Z]+\s+)*[A-Z0-9]*\d[A-Z0-9]*)")
"""After the maker, words in capitals up to the first with a digit."""


def facts() -> dict[str, Any]:
    """Return what this process runs on and with, as plain values.

    Host name, processor, memory, operating system, library versions, the limits of the container if it has any
    (`cpu_quota` in cores, `memory_limit_mb`), the `cores` that this process is bound to, and under `env` the
    environment variables that may change a figure.
    """
    return {**_lasting(), "cores": sorted(os.sched_getaffinity(0)), "env": environment.here()}


@cache
def _lasting() -> dict[str, Any]:
    """Return the facts that do not change: the fork server gathers them once for all its children."""
    lasting: dict[str, Any] = {
        "hostname": socket.gethostname(),
        "cpu_model": _cpu_model(),
        "cpu_count": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    lasting |= {package.replace("-", "_"): version for package in PACKAGES if (version := version_of(package))}
    if (quota := cgroup.cpu_quota()) is not None:
        lasting["cpu_quota"] = round(quota, 3)
    if (limit := cgroup.memory_limit()) is not None:
        lasting["memory_limit_mb"] = limit // 2**20
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        lasting["cpu_governor"] = governor.read_text().strip()
    return lasting


def free_memory() -> int:
    """Return the bytes that this process can still allocate, of the machine's memory and the container's limit."""
    left = cgroup.memory_left()
    free = psutil.virtual_memory().available
    return free if left is None else min(free, left)


def oom_kills() -> int:
    """Return how many processes the kernel has killed as memory ran out, in the container or else on the machine."""
    if (killed := cgroup.oom_kills()) is not None:
        return killed
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def out_of_memory() -> str:
    """Return "out of memory", with the container's limit where it has one."""
    limit = cgroup.memory_limit()
    return "out of memory" + ("" if limit is None else f" (the container's limit is {limit / 2**20:.0f} MB)")


def signal_name(number: int) -> str:
    """Return a signal's name, such as `SIGKILL`, or its number: Python names few of the real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"Signal{number}"


def gpu_facts() -> dict[str, Any]:
    """Return the names of the GPUs that this process may use, their driver and its newest CUDA; empty without GPUs."""
    cards = [card.facts() for card in nvml.visible_cards()]
    if not cards:
        return {}
    names = ", ".join(card["name"] for card in cards if "name" in card)
    known = {"gpu": names or None, "gpu_driver": cards[0].get("driver"), "cuda": cards[0].get("cuda")}
    return {key: text for key, text in known.items() if text is not None}


def gpu_count() -> int:
    """Return how many NVIDIA GPUs this process may use, without loading CUDA."""
    if (visible := nvml.visible_names()) is not None:
        return len(visible)
    if cards := nvml.visible_cards():
        return len(cards)
    listed = Path("/proc/driver/nvidia/gpus")  # a container may have no NVML
    return len(list(listed.iterdir())) if listed.is_dir() else 0


def gpu_ids(count: int) -> tuple[str, ...]:
    """Return the first `count` GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = nvml.visible_names()
    return tuple(map(str, range(count)) if visible is None else visible[:count])


def accelerator() -> str | None:
    """Return Ray's name for the type of this machine's GPUs, e.g. `H100`; None where NVML reports none.

    It follows Ray's own rule (`ray._private.accelerators.nvidia_gpu`), so that a device requires the same of this
    machine as of a cluster's node. Ray assumes that all GPUs of a node have the type of the first.
    """
    name = next((str(card.facts().get("name", "")) for card in nvml.visible_cards()), "")
    return accelerator_of(name) or None


def accelerator_of(name: str) -> str:
    """Return Ray's name for a card that NVML calls `name`: `H100` for `NVIDIA H100 80GB HBM3`."""
    model = _MODEL.match(name)
    if model and len(model[1]) > 1:
        return model[1].replace(" ", "-")
    return re.sub(r"^NVIDIA\s+", "", name).strip().replace(" ", "-")


def _cpu_model() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
