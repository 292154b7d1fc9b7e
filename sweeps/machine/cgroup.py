"""The limits of this process's container, read from the kernel's control groups.

Docker, Kubernetes, Slurm and systemd all limit a process through its control group. Version 1 has a tree of groups for
each controller, version 2 one tree for all; a hybrid system mounts both, and each controller is in one of them. The
process is bound by the limits of every group from its own up to the mounted root. Inside a container with a
namespace or a mount of its own, the mounted root is the container's group.

Every function takes the `root` of the file system, which is `/` except in tests.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path("/")


@dataclass(frozen=True)
class Throttling:
    """The kernel's counts since the groups were made, added up over the group and those above it."""

    periods: int = 0
    """Periods of enforcement, usually of 0.1 s, in which the group ran."""
    throttles: int = 0
    """Periods in which it used up its quota and was stopped."""
    throttled_s: float = 0.0
    """Seconds for which it was stopped, added up over the cores."""


@dataclass(frozen=True)
class _Group:
    """One group of a controller's tree."""

    folder: Path
    version: int

    def value(self, name: str) -> str:
        """Return the text of a file of the group; empty where there is none."""
        try:
            return (self.folder / name).read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        """Return the number in a file of the group; None where there is none, or `max`."""
        text = self.value(name)
        return int(text) if text.lstrip("-").isdigit() else None

    def entries(self, name: str) -> dict[str, int]:
        """Return the lines of a file of names and numbers."""
        lines = (line.split() for line in self.value(name).splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the processor time that this process may use, in cores (0.5 is half of one); None if unlimited."""
    return min((quota for group in _groups(root, "cpu") if (quota := _quota(group)) is not None), default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the bytes of memory that this process and its neighbours in the group may use; None if unlimited.

    In version 2, `memory.high` counts too: beyond it the kernel slows a group down until it frees memory.
    """
    limit = min((bytes_ for group in _groups(root, "memory") for bytes_ in _memory_limits(group)), default=None)
    # Version 1 writes "no limit" as its largest number. A limit beyond the machine's memory is no limit either.
    return limit if limit is not None and limit < _machine_memory(root) else None


def memory_left(root: Path = ROOT) -> int | None:
    """Return the bytes that can still be allocated before a limit is reached; None where there is no limit.

    Cached files that the kernel would drop count as free.
    """
    left = []
    for group in _groups(root, "memory"):
        limit = min(_memory_limits(group), default=None)
        used = group.number("memory.current" if group.version == 2 else "memory.usage_in_bytes")
        if limit is None or limit >= _machine_memory(root) or used is None:
            continue
        stat = group.entries("memory.stat")
        droppable = stat.get("inactive_file" if group.version == 2 else "total_inactive_file", 0)
        left.append(max(0, limit - max(0, used - droppable)))
    return min(left, default=None)


def processes_left(root: Path = ROOT) -> int | None:
    """Return how many processes and threads can still be started; None where there is no limit."""
    counted = [(group.number("pids.max"), group.number("pids.current")) for group in _groups(root, "pids")]
    return min((most - now for most, now in counted if most is not None and now is not None), default=None)


def throttling(root: Path = ROOT) -> Throttling:
    """Return what the quotas have cost this process so far; all zeros where there are none."""
    periods = throttles = 0
    throttled_s = 0.0
    for group in _groups(root, "cpu"):
        counted = group.entries("cpu.stat")
        periods += counted.get("nr_periods", 0)
        throttles += counted.get("nr_throttled", 0)
        throttled_s += counted.get("throttled_usec", 0) / 1e6 + counted.get("throttled_time", 0) / 1e9
    return Throttling(periods, throttles, throttled_s)


def oom_kills(root: Path = ROOT) -> int | None:
    """Return how many processes of this group the kernel has killed because memory, its own or the machine's, ran out.

    None where the kernel does not count them by group.
    """
    for group in _groups(root, "memory"):
        counted = group.entries("memory.events" if group.version == 2 else "memory.oom_control")
        return counted.get("oom_kill")
    return None


def _quota(group: _Group) -> float | None:
    """Return the processor time that the group may use, in cores."""
    if group.version == 2:
        limit, _, length = group.value("cpu.max").partition(" ")
        quota, period = (int(word) if word.isdigit() else 0 for word in (limit, length))
    else:
        quota, period = group.number("cpu.cfs_quota_us") or 0, group.number("cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None


def _memory_limits(group: _Group) -> Iterator[int]:
    if group.version == 2:
        limits = [group.number("memory.max"), group.number("memory.high")]
    else:  # the second covers groups above that are not mounted here, too
        limits = [group.number("memory.limit_in_bytes"), group.entries("memory.stat").get("hierarchical_memory_limit")]
    yield from (limit for limit in limits if limit)


@cache
def _machine_memory(root: Path) -> float:
    """Return the machine's memory in bytes; infinite where it is not known."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return math.inf


@cache
def _groups(root: Path, controller: str) -> tuple[_Group, ...]:
    """Return the groups that limit this process: its own, then those above it, as far as they are mounted.

    They are looked up once, as their counters are read before and after every timed pass.
    """
    paths = dict(_own_paths(root))
    version = 1 if controller in paths else 2  # on a hybrid system, each controller is in one version
    path = paths.get(controller if version == 1 else "")
    if path is None:
        return ()
    mounts = [mount for mount in _mounts(root) if mount.version == version]
    mounts = [mount for mount in mounts if version == 2 or controller in mount.controllers]
    for mount in mounts:
        if (group := mount.folder_of(path)) is not None:
            above = [folder for folder in group.parents if folder.is_relative_to(mount.point)]
            return tuple(_Group(folder, version) for folder in (group, *above))
    # The path is from outside this container; the mounted root is the container's group.
    return tuple(_Group(mount.point, version) for mount in mounts[:1])


@dataclass(frozen=True)
class _Mount:
    """A mounted tree of groups."""

    version: int
    point: Path
    within: PurePosixPath
    """The group, in the whole tree, that is mounted as the root."""
    controllers: frozenset[str]

    def folder_of(self, path: str) -> Path | None:
        """Return the folder of the group with this path in the whole tree; None where that is not mounted."""
        parts = PurePosixPath(path)
        if ".." in parts.parts or not parts.is_relative_to(self.within):
            return None
        folder = self.point / parts.relative_to(self.within)
        return folder if folder.is_dir() else None


def _own_paths(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the controllers of this process and its group in each; for version 2 the controller is empty."""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, path


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, filesystem = line.partition(" - ")
        kind, _, options = [*filesystem.split(" "), "", ""][:3]
        words = fields.split(" ")
        if kind in ("cgroup", "cgroup2") and len(words) > 4:
            within, point = (word.replace("\\040", " ") for word in words[3:5])
            yield _Mount(
                version=2 if kind == "cgroup2" else 1,
                point=root / point.lstrip("/"),
                within=PurePosixPath(within),
                controllers=frozenset(options.split(",")),
            )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
