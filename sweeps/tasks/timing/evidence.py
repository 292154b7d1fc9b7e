"""Evidence about the timed steps from the kernel: who else used the trial's cores, what was swapped, how fast they ran.

For a trial with GPUs, NVIDIA's library adds its own (`sweeps/machine/nvml.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.machine import cgroup, core_time
from sweeps.machine.cgroup import Throttling
from sweeps.machine.core_time import FINE_BLUR_S, TICKS_BLUR_S, Ticks
from sweeps.machine.nvml import Card, CardWatch

_SETTLE_S = 2e-4
"""Seconds after which TensorFlow's threads, which spin for a moment after a step, are asleep."""
_LEAST_SHARE = 0.1
"""A span of which ticks may miss this share is too short for them."""


@dataclass(frozen=True)
class _Reading:
    """The counters at one moment; seconds of cores are keyed by the core's number."""

    clock_s: float
    own_s: float
    """Processor time of this process."""
    fine_s: Mapping[int, float]
    """Busy seconds to the nanosecond; empty where the kernel does not count them."""
    ticks: Mapping[int, Ticks]
    swapped_pages: int
    major_faults: int
    mhz: float
    """Mean frequency of the trial's cores; 0 where the machine does not report it."""
    overheated: int | None
    """How often the trial's cores were slowed down because of heat; None where the machine does not report it."""
    quota: Throttling
    """What the quota of the process's control group has cost so far."""
    others_running: int
    """Other tasks that were on a core, or waiting for one, at that moment."""


class Watch:
    """Reads the counters at `start` and returns the differences at `stop`; `between_steps` reads in between."""

    def __init__(self, cards: Sequence[Card] = ()) -> None:
        self._gpus = CardWatch(cards)

    def start(self) -> None:
        self._gpus.start()
        self._cores = os.sched_getaffinity(0)
        self._before = self._read()

    def between_steps(self) -> None:
        """Sample the GPUs, at most once a second. Call it when no step is running."""
        self._gpus.between_steps()

    def stop(self) -> dict[str, float]:
        """Return shares of the cores' time over the watched seconds, and counts.

        `others_share`: the share of the trial's cores that other processes and interrupts had; `others_cores`: how many
        cores of the whole machine others kept busy on average; `blind_share`: the share of the trial's cores that
        others may have used without the counters showing it, which grows as the span becomes shorter; `steal_share`:
        what the hypervisor gave to another machine; `wall_s`; `swapped_pages`, `major_faults`; `mhz_before` and
        `mhz_after`, `throttles`, where the machine reports them; `quota_stops` of `quota_periods`, if any, in which the
        kernel stopped the process because its control group had used up its quota.
        """
        before, after = self._before, self._read()
        wall_s = after.clock_s - before.clock_s
        core_s = wall_s * len(self._cores)
        machine = after.ticks.keys() & before.ticks.keys()
        steal_s = sum(after.ticks[core].steal_s - before.ticks[core].steal_s for core in self._cores & machine)
        others_cores = _others_s(before, after, machine) / wall_s
        if wall_s * _LEAST_SHARE < TICKS_BLUR_S:
            # So short a span may end before the nanosecond counters notice a task that runs without a break.
            others_cores = max(others_cores, min(before.others_running, after.others_running))
        evidence: dict[str, float] = {
            "others_share": _others_s(before, after, self._cores) / core_s,
            "others_cores": others_cores,
            "blind_share": (FINE_BLUR_S if after.fine_s else TICKS_BLUR_S) / wall_s,
            "steal_share": max(0.0, steal_s - TICKS_BLUR_S * len(self._cores)) / core_s,
            "wall_s": wall_s,
            "swapped_pages": after.swapped_pages - before.swapped_pages,
            "major_faults": after.major_faults - before.major_faults,
        }
        if after.quota.throttles > before.quota.throttles:
            evidence["quota_stops"] = after.quota.throttles - before.quota.throttles
            evidence["quota_periods"] = after.quota.periods - before.quota.periods
        if before.mhz and after.mhz:
            evidence |= {"mhz_before": before.mhz, "mhz_after": after.mhz}
        if before.overheated is not None and after.overheated is not None:
            evidence["throttles"] = after.overheated - before.overheated
        return evidence | self._gpus.stop()

    def _read(self) -> _Reading:
        time.sleep(_SETTLE_S)
        # The process's clock first: reading it brings the scheduler's counters of this core up to date.
        own_s = time.process_time()
        counter = core_time.machine_counter()
        fine_s = counter() if counter else {}
        paging = dict(line.split() for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines())
        return _Reading(
            clock_s=time.perf_counter(),
            own_s=own_s,
            fine_s=fine_s,
            ticks=core_time.ticks(),
            swapped_pages=int(paging["pswpin"]) + int(paging["pswpout"]),
            major_faults=_major_faults(),
            mhz=_mhz(self._cores),
            overheated=_overheated(self._cores),
            quota=cgroup.throttling(),
            others_running=int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]) - 1,
        )


def _others_s(before: _Reading, after: _Reading, cores: Collection[int]) -> float:
    """Return the seconds of these cores that others certainly used, by whichever counter shows more."""
    own_s = after.own_s - before.own_s
    by_ticks = sum(after.ticks[core].busy_s - before.ticks[core].busy_s for core in cores if core in before.ticks)
    sure_s = [0.0, by_ticks - own_s - TICKS_BLUR_S * len(cores)]
    if after.fine_s:
        sure_s.append(sum(after.fine_s[core] - before.fine_s[core] for core in cores if core in before.fine_s) - own_s)
    return max(sure_s)


def _major_faults() -> int:
    return int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[9])


def _mhz(cores: Collection[int]) -> float:
    readings = []
    for core in cores:
        path = Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq")
        if path.exists():
            readings.append(int(path.read_text(encoding="ascii")) / 1000)
    return sum(readings) / len(readings) if readings else 0.0


def _overheated(cores: Collection[int]) -> int | None:
    counts = [
        int(path.read_text(encoding="ascii"))
        for core in cores
        for path in Path(f"/sys/devices/system/cpu/cpu{core}/thermal_throttle").glob("core_throttle_count")
    ]
    return sum(counts) if counts else None
