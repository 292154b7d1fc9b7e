"""Gives each trial cores of its own, among all sweeps of one user on one machine.

A core is held by a lock on a file. The kernel drops the lock when its holder dies, so a crash never strands a core.
Where the container has a quota of processor time, trials share as many cores as the quota covers in full: with more,
the kernel would stop all of them for a part of every period.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.machine import cgroup
from sweeps.process import temporary

_PATIENCE_S = 0.02
SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Which cores belong together."""

    numa: Mapping[int, int] = field(default_factory=dict)
    """The NUMA node of each core; node 0 for cores that are missing here."""
    physical: Mapping[int, int] = field(default_factory=dict)
    """The first hyper-thread of each core's physical core; cores that are missing here are physical cores."""

    def choose(self, count: int, free: Iterable[int]) -> tuple[int, ...]:
        """Choose `count` of the free cores: on one NUMA node where one has enough, else on as few nodes as possible.

        Physical cores come before their second threads; among nodes equal in that, the one with the fewest free cores.
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
        """Return the cores in the order in which to take them: every physical core once, then the remaining threads."""
        taken: dict[int, int] = defaultdict(int)
        rounds = []
        for core in cores:
            physical = self.physical.get(core, core)
            rounds.append((taken[physical], core))
            taken[physical] += 1
        return [core for _, core in sorted(rounds)]


def available(system: Path = SYSTEM) -> tuple[int, ...]:
    """Return the cores that this process may use, in order: as many of those it may run on as its quota covers.

    A quota below one core gives one core, on which a trial is stopped for a part of the time.
    """
    allowed = sorted(os.sched_getaffinity(0))
    quota = cgroup.cpu_quota()
    if quota is None or quota >= len(allowed):
        return tuple(allowed)
    return paid_for(max(1, int(quota)), allowed, topology(system), socket.gethostname())


def paid_for(count: int, allowed: Sequence[int], topology: Topology, name: str) -> tuple[int, ...]:
    """Return `count` of the allowed cores, always the same ones for a container with this name.

    A quota says how many cores, not which. Containers on one machine do not know of each other and would all bind their
    trials to its first cores; their names spread them over the machine.
    """

    # Neighbours in this order are on one NUMA node and, except at the end, on different physical cores.
    def rank(core: int) -> tuple[bool, int, int]:
        return topology.physical.get(core, core) != core, topology.numa.get(core, 0), core

    ranked = sorted(allowed, key=rank)
    start = zlib.crc32(name.encode()) % (len(ranked) // count) * count
    return tuple(sorted(ranked[start : start + count]))


def topology(system: Path = SYSTEM) -> Topology:
    """Read the topology from /sys/devices/system; empty where the kernel reports none."""
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
    cores = available(system)
    cores = cores[: len(cores) - spared]
    if not 1 <= count <= len(cores):
        raise ValueError(f"expected between 1 and {len(cores)} cores. Received: {count}")
    folder = temporary.base() / "cores"
    folder.mkdir(mode=0o700, exist_ok=True)
    held: dict[int, int] = {}
    needed = len(cores) if alone else count
    try:
        # One claim at a time collects cores: two that each held half of what they need would wait for ever.
        with _locked(folder / "queue"):
            while True:
                for core in cores:
                    if core not in held and (lock := _try_lock(folder / str(core))) is not None:
                        held[core] = lock
                if len(held) >= needed:
                    break
                time.sleep(_PATIENCE_S)
            chosen = topology(system).choose(count, held) if count < len(held) else tuple(sorted(held))
            if not alone:
                for core in held.keys() - set(chosen):
                    os.close(held.pop(core))
        yield chosen
    finally:
        for lock in held.values():
            os.close(lock)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the lock on a file, and hold it in the body."""
    lock = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Return the descriptor that holds the lock on a file until it is closed; None where another has it."""
    try:
        return _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _lock(path: Path, how: int) -> int:
    """Return the descriptor that holds the lock on the file that has this name now.

    A cleaner of temporary folders may remove the file between its opening and the lock, and the next claim would make
    another. Its time is set to now, because cleaners look for old files.
    """
    while True:
        lock = temporary.open_lock(path)
        try:
            fcntl.flock(lock, how)
            os.utime(lock)
            if _names(path, lock):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _names(path: Path, descriptor: int) -> bool:
    """Whether the path leads to this open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _cores(path: Path) -> list[int]:
    """Read a list of cores as the kernel writes it, e.g. `0-3,8`; empty where there is none."""
    try:
        parts = path.read_text(encoding="ascii").strip().split(",")
    except OSError:
        return []
    cores: list[int] = []
    for first, _, last in (part.partition("-") for part in parts if part):
        cores += range(int(first), int(last or first) + 1)
    return cores
