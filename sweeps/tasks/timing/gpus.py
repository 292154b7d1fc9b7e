"""Prepares a trial's GPUs in TensorFlow: all visible, with enough free memory, and limited as the device says."""

from __future__ import annotations

import ctypes
import site
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from sweeps.machine.nvml import visible_cards
from sweeps.wording import counted
from tracking.schema.device import Device

DRIVER = "libcuda.so.1"
MANAGEMENT = "libnvidia-ml.so.1"
"""Another part of the driver, without which TensorFlow 2.21 sees no GPU."""
NCCL = "libnccl.so.2"
"""The library with which several GPUs sum gradients."""
LIBRARIES: dict[str, tuple[str, ...]] = {
    "12": (
        *("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11"),
        *("libcusolver.so.11", "libcusparse.so.12", "libcudnn.so.9", NCCL),
    )
}
"""The libraries that TensorFlow opens at run time besides the driver, by the CUDA version it was built for."""
_BRINGS = "pip install 'tensorflow[and-cuda]' brings them."
_LEAST_FREE_MB = 1024
"""A little more than CUDA, cuDNN and cuBLAS take before the first tensor."""


class GpuError(RuntimeError):
    """The trial's GPUs are missing or in use."""


def prepare(device: Device) -> None:
    """Make TensorFlow use the trial's GPUs, within their limits. Call it before TensorFlow touches a device.

    Raises GpuError where TensorFlow sees fewer, with the library that it misses, or where another process uses their
    memory.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) < device.gpus:
        raise GpuError(
            f"expected TensorFlow to see {counted(device.gpus, 'GPU')}. "
            f"Received: {len(gpus) or 'none'}. {why_none() if not gpus else ''}".rstrip()
        )
    if device.gpus > 1 and not _opens(NCCL):
        raise GpuError(f"expected {NCCL} for {device.gpus} GPUs. Received: none. {_BRINGS}")
    expect_free(device)
    limit(gpus, device.gpu_memory_mb)


def limit(gpus: Sequence[Any], memory_mb: int | None) -> None:
    """Let TensorFlow's memory on each GPU grow as needed, or limit it to `memory_mb` (units of 2**20 bytes)."""
    for gpu in gpus:
        if memory_mb is None:
            tf.config.experimental.set_memory_growth(gpu, True)
        else:
            logical = tf.config.LogicalDeviceConfiguration(memory_limit=memory_mb)
            tf.config.set_logical_device_configuration(gpu, [logical])


def why_none() -> str:
    """Return why this TensorFlow sees no GPU, if that shows: its build, the driver, or a missing library."""
    build = tf.sysconfig.get_build_info()
    if not build.get("is_cuda_build"):
        return "This TensorFlow was built without CUDA."
    if not _opens(DRIVER):
        return f"There is no NVIDIA driver: {DRIVER} cannot be opened."
    if not _opens(MANAGEMENT):
        return (
            f"The NVIDIA driver is installed, but its {MANAGEMENT} cannot be opened; in a container, "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility brings it."
        )
    version = str(build.get("cuda_version", "")).split(".")[0]
    if missing := [name for name in LIBRARIES.get(version, ()) if not _opens(name)]:
        return f"TensorFlow lacks {', '.join(missing)}; {_BRINGS}"
    return f"The driver and CUDA {version}'s libraries are installed; TF_CPP_MIN_LOG_LEVEL=0 lets TensorFlow say more."


def _opens(name: str) -> bool:
    """Whether the library can be opened where TensorFlow looks: in the system's folders or NVIDIA's packages."""
    packaged = [path for folder in site.getsitepackages() for path in Path(folder).glob(f"nvidia/*/lib/{name}")]
    for candidate in (name, *map(str, packaged)):
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return True
    return False


def expect_free(device: Device) -> None:
    """Raise GpuError where a card has less free memory than the trial may use, or than CUDA itself takes."""
    needed = device.gpu_memory_mb or _LEAST_FREE_MB
    for card in visible_cards():
        free = card.free_mb()
        if free is not None and free < needed:
            name = card.facts().get("name", "the GPU")
            raise GpuError(
                f"expected {needed} MB free on {name}. Received: {free:.0f} MB; other processes use the rest"
            )
