"""Real control groups for tests: a command under a quota or a limit that the kernel holds it to."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_MOUNT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


@contextlib.contextmanager
def limited(*, cores: float | None = None, memory_mb: int | None = None) -> Iterator[list[str]]:
    """The beginning of a command line that runs the rest of it within these limits.

    Skips the test where groups cannot be made. The groups go when what ran in them has ended.
    """
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    settings: dict[str, dict[str, str]] = {}
    if cores is not None:
        quota = round(cores * _PERIOD_US)
        settings["cpu"] = (
            {"cpu.max": f"{quota} {_PERIOD_US}"}
            if _unified()
            else {"cpu.cfs_period_us": f"{_PERIOD_US}", "cpu.cfs_quota_us": f"{quota}"}
        )
    if memory_mb is not None:
        settings["memory"] = {"memory.max" if _unified() else "memory.limit_in_bytes": str(memory_mb * 2**20)}
    folders: list[Path] = []
    try:
        for controller, files in settings.items():
            folder = _MOUNT / name if _unified() else _MOUNT / controller / name
            try:
                folder.mkdir(exist_ok=True)
                folders.append(folder)
                for file, text in files.items():
                    (folder / file).write_text(text)
            except OSError as error:
                pytest.skip(f"no control group of {controller} can be made here: {error}")
        enter = "".join(f'echo $$ > "{folder}/cgroup.procs"; ' for folder in folders)
        yield ["sh", "-c", f'{enter}exec "$@"', "sh"]
    finally:
        for folder in dict.fromkeys(folders):
            _remove(folder)


def _unified() -> bool:
    return (_MOUNT / "cgroup.controllers").exists()


def _remove(folder: Path, patience_s: float = 60.0) -> None:
    """A group can be removed when its last process is gone, which may be a moment after the command's end."""
    until = time.monotonic() + patience_s
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
