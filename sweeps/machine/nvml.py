"""The trial's GPUs as NVIDIA's management library reports them: facts, and their state while steps were timed.

NVML is called before, after and at most once a second between steps, never within one and from no extra thread. Without
a driver there are no cards; what an older driver or card does not report is left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pynvml

THROTTLES = {
    "power_limit": pynvml.nvmlClocksThrottleReasonSwPowerCap,
    "hardware": pynvml.nvmlClocksThrottleReasonHwSlowdown,
    "temperature": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown,
    "hardware_temperature": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
    "power_brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
}
"""Reasons for a lowered clock, by their names in the evidence: `gpu_throttled_<name>`."""
_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The state of one card at one moment; None for what it does not report."""

    sm_mhz: float | None
    power_w: float | None
    temperature_c: float | None
    energy_j: float | None
    """Since the driver was loaded; Volta and later."""
    throttles: int | None
    """Bits of NVML's reasons."""
    processes: int | None
    """How many processes compute on it, including this one."""


class Card:
    """One GPU, by NVML's handle."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def facts(self) -> dict[str, Any]:
        """Return name, driver, its newest CUDA, memory (2**20 bytes), highest SM clock and current power limit."""
        cuda = _answer(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        memory = _answer(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        limit_mw = _answer(pynvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        facts = {
            "name": _answer(pynvml.nvmlDeviceGetName, self._handle),
            "uuid": _answer(pynvml.nvmlDeviceGetUUID, self._handle),
            "driver": _answer(pynvml.nvmlSystemGetDriverVersion),
            "cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}",
            "memory_mb": memory and memory.total // 2**20,
            "max_sm_mhz": _answer(pynvml.nvmlDeviceGetMaxClockInfo, self._handle, pynvml.NVML_CLOCK_SM),
            "power_limit_w": limit_mw and limit_mw / 1000,
        }
        return {key: value for key, value in facts.items() if value is not None}

    def free_mb(self) -> float | None:
        """Return the free memory, in units of 2**20 bytes."""
        memory = _answer(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        return None if memory is None else memory.free / 2**20

    def sample(self) -> Sample:
        power_mw = _answer(pynvml.nvmlDeviceGetPowerUsage, self._handle)
        energy_mj = _answer(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        throttles = _answer(pynvml.nvmlDeviceGetCurrentClocksEventReasons, self._handle)
        if throttles is None:  # its name in drivers before 535
            throttles = _answer(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, self._handle)
        processes = _answer(pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return Sample(
            sm_mhz=_answer(pynvml.nvmlDeviceGetClockInfo, self._handle, pynvml.NVML_CLOCK_SM),
            power_w=None if power_mw is None else power_mw / 1000,
            temperature_c=_answer(pynvml.nvmlDeviceGetTemperature, self._handle, pynvml.NVML_TEMPERATURE_GPU),
            energy_j=None if energy_mj is None else energy_mj / 1000,
            throttles=throttles,
            processes=None if processes is None else len(processes),
        )


def visible_names() -> list[str] | None:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, by index or UUID; None where it is unset: all are visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return [name for part in visible.split(",") if (name := part.strip()) not in ("", "-1")]


def visible_cards() -> list[Card]:
    """Return the cards that CUDA_VISIBLE_DEVICES names, by index or UUID; all of them where it is not set.

    Indices are NVML's, by PCI bus; CUDA uses the same with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    visible = visible_names()
    if visible is None:
        handles = [
            _answer(pynvml.nvmlDeviceGetHandleByIndex, i) for i in range(_answer(pynvml.nvmlDeviceGetCount) or 0)
        ]
    else:
        handles = [_handle(name) for name in visible]
    return [Card(handle) for handle in handles if handle is not None]


class CardWatch:
    """Samples the cards at `start`, at `stop` and, at most once a second, `between_steps`."""

    def __init__(self, cards: Sequence[Card], clock: Callable[[], float] = time.monotonic) -> None:
        self._cards, self._clock = cards, clock
        self._samples: list[list[Sample]] = []

    def start(self) -> None:
        self._samples = []
        self._look()

    def between_steps(self) -> None:
        if self._cards and self._clock() - self._looked_at >= _EVERY_S:
            self._look()

    def stop(self) -> dict[str, float]:
        """Return the evidence about the cards since `start`; empty where there are none.

        `gpu_sm_mhz_before`, `_after` and `_min` of the slowest card, `gpu_temperature_c` of the warmest, `gpu_power_w`
        (the mean) and `gpu_energy_j` (by the cards' own counters) of all together; `gpu_foreign_processes`,
        the most at one look, where processes are listed; `gpu_throttled_<reason>`, the share of looks that found it;
        `gpu_looks`, their number.
        """
        if not self._cards:
            return {}
        self._look()
        rounds = self._samples
        everything = [sample for samples in rounds for sample in samples]
        evidence: dict[str, float] = {"gpu_looks": len(rounds)}
        clocks = [_numbers(sample.sm_mhz for sample in samples) for samples in rounds]
        if all(clocks):
            slowest = [min(each) for each in clocks]
            evidence |= {
                "gpu_sm_mhz_before": slowest[0],
                "gpu_sm_mhz_after": slowest[-1],
                "gpu_sm_mhz_min": min(slowest),
            }
        if warm := _numbers(sample.temperature_c for sample in everything):
            evidence["gpu_temperature_c"] = max(warm)
        if power := _numbers(sample.power_w for sample in everything):
            evidence["gpu_power_w"] = sum(power) / len(rounds)
        first, last = (_numbers(sample.energy_j for sample in samples) for samples in (rounds[0], rounds[-1]))
        if first and len(first) == len(last):
            evidence["gpu_energy_j"] = sum(last) - sum(first)
        # A container may list its own process under another id: one of those listed is ours. Where none is ever listed,
        # not even ours, nothing is known about others.
        if any(sample.processes for sample in everything):
            others = [sum(max(0, count - 1) for count in _numbers(s.processes for s in samples)) for samples in rounds]
            evidence["gpu_foreign_processes"] = max(others)
        for name, bit in THROTTLES.items():
            if share := sum(any((s.throttles or 0) & bit for s in samples) for samples in rounds) / len(rounds):
                evidence[f"gpu_throttled_{name}"] = share
        return evidence

    def _look(self) -> None:
        if self._cards:
            self._samples.append([card.sample() for card in self._cards])
            self._looked_at = self._clock()


def _answer(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return the library's answer, or None where it has none."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None


def _handle(name: str) -> Any:
    if name.isascii() and name.isdigit():
        return _answer(pynvml.nvmlDeviceGetHandleByIndex, int(name))
    return _answer(pynvml.nvmlDeviceGetHandleByUUID, name)


def _numbers(values: Any) -> list[float]:
    return [value for value in values if value is not None]
