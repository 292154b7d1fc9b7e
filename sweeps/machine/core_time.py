"""How long each core of the machine has been busy, by the kernel's finest counters.

`/proc/stat` counts ticks of 10 ms and always exists. Nanoseconds are in `/proc/schedstat` (CONFIG_SCHEDSTATS, which
most distributions set) or in the cpuacct controller of the machine's root control group (version 1). With them, a few
milliseconds show whether a core was shared, which takes 0.2 s by ticks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
TICKS_BLUR_S = 2 * _TICK_S
"""Error of the difference of two readings of a core's ticks: each is sampled and rounded to a whole tick."""
FINE_BLUR_S = 2e-4
"""The same for the nanosecond counters: the time between reading them and the process's own clock."""
_ROOT_GROUP_SHARE = 0.8
"""The root control group has at least this share of all busy time since boot; that of a container has less."""

FineCounter = Callable[[], Mapping[int, float]]


@dataclass(frozen=True)
class Ticks:
    """How one core has spent its time since boot, in seconds, according to `/proc/stat`."""

    busy_s: float
    """Spent on processes and interrupts."""
    steal_s: float
    """Taken by the hypervisor."""


def ticks(proc: Path = Path("/proc")) -> dict[int, Ticks]:
    """Return how each core has spent its time, according to `/proc/stat`, to 10 ms."""
    cores = {}
    for line in (proc / "stat").read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
            busy = user + nice + system + irq + softirq
            cores[int(name.removeprefix("cpu"))] = Ticks(busy * _TICK_S, steal * _TICK_S)
    return cores


def fine_counter(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> FineCounter | None:
    """Return a function for each core's busy seconds to the nanosecond; None where the kernel does not count so finely.

    `/proc/schedstat` counts a process that runs without a break only once it is interrupted, and cpuacct at every tick
    of the kernel (1 to 10 ms), so `ticks` is the better source over a longer time.
    """
    schedstat = proc / "schedstat"
    if schedstat.is_file():
        return lambda: _schedstat(schedstat)
    for name in ("cpuacct", "cpu,cpuacct"):
        usage = groups / name / "cpuacct.usage_percpu"
        if usage.is_file() and _is_of_the_machine(_usage(usage), ticks(proc).values()):
            return lambda: _usage(usage)
    return None


@cache
def machine_counter() -> FineCounter | None:
    """Return this machine's `fine_counter`, looked for once per process."""
    return fine_counter()


def _schedstat(path: Path) -> dict[int, float]:
    """Return each core's busy seconds: the seventh number of its line, in nanoseconds (Documentation/scheduler)."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {int(fields[0][3:]): int(fields[7]) / 1e9 for fields in lines if fields and fields[0].startswith("cpu")}


def _usage(path: Path) -> dict[int, float]:
    return {core: int(field) / 1e9 for core, field in enumerate(path.read_text(encoding="ascii").split())}


def _is_of_the_machine(usage: Mapping[int, float], machine: Iterable[Ticks]) -> bool:
    """Whether these are the seconds of all tasks; a container sees only its own at the same place."""
    return sum(usage.values()) >= _ROOT_GROUP_SHARE * sum(core.busy_s for core in machine)
