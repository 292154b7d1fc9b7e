"""Cores that a trial has to itself, among all sweeps of one user on one machine.

A core is held by a lock on a file; the kernel drops the lock when its holder dies, so a crash never strands a core.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_PATIENCE_S = 0.02
SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Which cores belong together."""

    numa: Mapping[int, int] = field(default_factory=dict)
    """The NUMA node of each core; a core that is not there is of node 0."""
    physical: Mapping[int, int] = field(default_factory=dict)
    """The first hyper-thread of each core's physical core; a core that is not there is one of its own."""

    def choose(self, count: int, free: Iterable[int]) -> tuple[int, ...]:
        """`count` of the free cores: of one NUMA node where one has enough, and of as few as possible otherwise.

        Physical cores come before their second threads; of NUMA nodes that are alike in that, the one with least free.
        """
        nodes: dict[int, list[int]] = defaultdict(list)
        for core in sorted(free):
            nodes[self.numa.get(core, 0)].append(core)
        enough = [cores for cores in nodes.values() if len(cores) >= count]
        if enough:
            physical = {id(cores): len({self.physical.get(core, core) for core in cores}) for cores in enough}
            best = min(enough, key=lambda cores: (-min(count, physical[id(cores)]), len(cores)))
            return tuple(sorted(self._spread(best)[:count]))
        largest_first = sorted(nodes.values(), key=len, reverse=True)
        return tuple(sorted([core for cores in largest_first for core in self._spread(cores)][:count]))

    def _spread(self, cores: Sequence[int]) -> list[int]:
        """The cores in the order in which to take them: every physical core once, then the threads left over."""
        taken: dict[int, int] = defaultdict(int)
        rounds = []
        for core in cores:
            physical = self.physical.get(core, core)
            rounds.append((taken[physical], core))
            taken[physical] += 1
        return [core for _, core in sorted(rounds)]


def available() -> tuple[int, ...]:
    """The cores that this process may use, in order."""
    return tuple(sorted(os.sched_getaffinity(0)))


def topology(system: Path = SYSTEM) -> Topology:
    """What the kernel says in /sys/devices/system; empty where it says nothing."""
    numa: dict[int, int] = {}
    for path in system.glob("node/node[0-9]*/cpulist"):
        numa |= dict.fromkeys(_cores(path), int(path.parent.name.removeprefix("node")))
    physical = {
        core: min(_cores(path), default=core)
        for path in system.glob("cpu/cpu[0-9]*/topology/thread_siblings_list")
        for core in [int(path.parent.parent.name.removeprefix("cpu"))]
    }
    return Topology(numa=numa, physical=physical)


@contextlib.contextmanager
def claim(count: int, *, alone: bool = False, spared: int = 0, system: Path = SYSTEM) -> Iterator[tuple[int, ...]]:
    """Hold `count` cores, waiting until that many are free. Raises ValueError for more cores than there are.

    With `alone`, no other claim holds a core meanwhile. The last `spared` cores are left to others.
    """
    cores = available()
    cores = cores[: len(cores) - spared]
    if not 1 <= count <= len(cores):
        raise ValueError(f"expected between 1 and {len(cores)} cores. Received: {count}")
    folder = Path(tempfile.gettempdir()) / f"sweeps-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    held: dict[int, IO[str]] = {}
    needed = len(cores) if alone else count
    try:
        # One claim at a time looks for cores: two that each hold half of what they need would wait for ever.
        with (folder / "queue").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            while True:
                for core in cores:
                    if core not in held and (lock := _try_lock(folder / str(core))):
                        held[core] = lock
                if len(held) >= needed:
                    break
                time.sleep(_PATIENCE_S)
            chosen = topology(system).choose(count, held) if count < len(held) else tuple(sorted(held))
            if not alone:
                for core in held.keys() - set(chosen):
                    held.pop(core).close()
        yield chosen
    finally:
        for lock in held.values():
            lock.close()


def _try_lock(path: Path) -> IO[str] | None:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _cores(path: Path) -> list[int]:
    """The kernel's list of cores, e.g. `0-3,8`."""
    try:
        parts = path.read_text(encoding="ascii").strip().split(",")
    except OSError:
        return []
    found: list[int] = []
    for first, _, last in (part.partition("-") for part in parts if part):
        found += range(int(first), int(last or first) + 1)
    return found
