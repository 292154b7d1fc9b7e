"""Facts about the machine a trial ran on, gathered in the trial's own process."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from sweeps import nvml

PACKAGES = ("tensorflow", "keras", "numpy", "ray", "mlflow", "hydra-core")


def facts() -> dict[str, Any]:
    """Host name, processor, memory, operating system, library versions, and the cores this process is bound to."""
    return {**_lasting(), "cores": sorted(os.sched_getaffinity(0))}


@cache
def _lasting() -> dict[str, Any]:
    """What stays as it is: found once in the fork server, known to all its children."""
    found: dict[str, Any] = {
        "hostname": socket.gethostname(),
        "cpu_model": _cpu_model(),
        "cpu_count": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    found |= {package.replace("-", "_"): version for package in PACKAGES if (version := version_of(package))}
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        found["cpu_governor"] = governor.read_text().strip()
    return found


def gpu_facts() -> dict[str, Any]:
    """Names of the GPUs that this process may use, their driver and the newest CUDA it knows; nothing without any."""
    cards = [card.facts() for card in nvml.visible_cards()]
    if not cards:
        return {}
    names = ", ".join(card["name"] for card in cards if "name" in card)
    found = {"gpu": names or None, "gpu_driver": cards[0].get("driver"), "cuda": cards[0].get("cuda")}
    return {key: text for key, text in found.items() if text is not None}


def gpu_count() -> int:
    """NVIDIA GPUs that this process may use, without loading CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    if cards := nvml.visible_cards():
        return len(cards)
    listed = Path("/proc/driver/nvidia/gpus")  # a container may have no NVML
    return len(list(listed.iterdir())) if listed.is_dir() else 0


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
