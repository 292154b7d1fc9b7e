"""Cores that a trial has to itself, among all sweeps of one user on one machine.

A core is held by a lock on a file; the kernel drops the lock when its holder dies, so a crash never strands a core.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_PATIENCE_S = 0.02


def available() -> tuple[int, ...]:
    """The cores that this process may use, in order."""
    return tuple(sorted(os.sched_getaffinity(0)))


@contextlib.contextmanager
def claim(count: int) -> Iterator[tuple[int, ...]]:
    """Hold `count` cores, waiting until that many are free. Raises ValueError for more cores than there are."""
    cores = available()
    if not 1 <= count <= len(cores):
        raise ValueError(f"expected between 1 and {len(cores)} cores. Received: {count}")
    folder = Path(tempfile.gettempdir()) / f"sweeps-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    held: dict[int, IO[str]] = {}
    try:
        # One claim at a time looks for cores: two that each hold half of what they need would wait for ever.
        with (folder / "queue").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            while len(held) < count:
                for core in cores:
                    if len(held) < count and core not in held and (lock := _try_lock(folder / str(core))):
                        held[core] = lock
                if len(held) < count:
                    time.sleep(_PATIENCE_S)
        yield tuple(sorted(held))
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
