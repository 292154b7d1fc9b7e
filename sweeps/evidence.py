"""What the kernel says of the timed steps: who else had the trial's cores, what was swapped, how fast they ran.

And what NVIDIA's library says of the trial's GPUs, if it has any (`sweeps/nvml.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from sweeps.nvml import Card, CardWatch

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Watch:
    """Reads the counters at `start` and gives the differences at `stop`; in between, only `between_steps` looks."""

    def __init__(self, cards: Sequence[Card] = ()) -> None:
        self._gpus = CardWatch(cards)

    def start(self) -> None:
        self._gpus.start()
        self._cores = os.sched_getaffinity(0)
        self._before = self._counters()

    def between_steps(self) -> None:
        """Look at the GPUs again, at most once a second. Call it when no step is running."""
        self._gpus.between_steps()

    def stop(self) -> dict[str, float]:
        """Shares of the cores' time over the watched seconds, and counts.

        `others_share`: the cores' time that other processes and interrupts had; `others_cores`: how many cores of the
        whole machine others kept busy on average; `steal_share`: time that the hypervisor
        gave to another machine; `wait_s`: seconds that threads of this process were ready to run and did not;
        `swapped_pages`, `major_faults`; `mhz_before` and `mhz_after` where the machine tells. Shares come from ticks of
        10 ms: over less than a second they are coarse.
        """
        before, after = self._before, self._counters()
        change = {name: after[name] - before[name] for name in after}
        core_s = change["wall_s"] * len(self._cores)
        found = {
            "others_share": max(0.0, change["busy_s"] - change["own_s"]) / core_s,
            "others_cores": max(0.0, change["machine_s"] - change["own_s"]) / change["wall_s"],
            "steal_share": change["steal_s"] / core_s,
            "wait_s": change["wait_s"],
            "wall_s": change["wall_s"],
            "swapped_pages": change["swapped_pages"],
            "major_faults": change["major_faults"],
        }
        if before["mhz"] and after["mhz"]:
            found |= {"mhz_before": before["mhz"], "mhz_after": after["mhz"]}
        if "throttles" in change:
            found["throttles"] = change["throttles"]
        return found | self._gpus.stop()

    def _counters(self) -> dict[str, float]:
        busy_s, steal_s = _cores_time(self._cores)
        machine_s, _ = _cores_time(range(os.cpu_count() or 1))
        paging = dict(line.split() for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines())
        own = os.times()
        return {
            "wall_s": time.perf_counter(),
            "busy_s": busy_s,
            "machine_s": machine_s,
            "steal_s": steal_s,
            "own_s": own.user + own.system,
            "wait_s": sum(_waited_ns()) / 1e9,
            "swapped_pages": float(paging["pswpin"]) + float(paging["pswpout"]),
            "major_faults": float(_major_faults()),
            "mhz": _mhz(self._cores),
            **_throttles(self._cores),
        }


def _cores_time(cores: Iterable[int]) -> tuple[float, float]:
    """Seconds since boot that the cores were busy with processes and interrupts, and that the hypervisor took."""
    busy = steal = 0
    wanted = {f"cpu{core}" for core in cores}
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *ticks = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, irq, softirq, stolen = (int(tick) for tick in ticks[:8])
            busy += user + nice + system + irq + softirq
            steal += stolen
    return busy / _TICKS_PER_S, steal / _TICKS_PER_S


def _waited_ns() -> Iterable[int]:
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            yield int(path.read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):  # a thread that has just ended, or a kernel that does not tell
            continue


def _major_faults() -> int:
    return int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[9])


def _mhz(cores: Iterable[int]) -> float:
    """Mean current frequency of the cores; 0 where the machine does not tell."""
    readings = []
    for core in cores:
        path = Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq")
        if path.exists():
            readings.append(int(path.read_text(encoding="ascii")) / 1000)
    return sum(readings) / len(readings) if readings else 0.0


def _throttles(cores: Iterable[int]) -> dict[str, float]:
    counts = [
        int(path.read_text(encoding="ascii"))
        for core in cores
        for path in Path(f"/sys/devices/system/cpu/cpu{core}/thermal_throttle").glob("core_throttle_count")
    ]
    return {"throttles": float(sum(counts))} if counts else {}
