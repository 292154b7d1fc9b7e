"""Ends Ray's processes and removes Ray's folder when the driver that started them dies before doing so itself.

Ray's larger processes end with their driver, but its agents take up to half a minute to notice, and a worker first
finishes what it is doing. The guardian waits for the driver's end of a pipe to close, for whatever reason. It runs as a
script with the standard library only, so that it starts at once.

Every process that Ray starts writes its log into Ray's folder, whatever its name and parent are by now. The processes
to end are therefore those that have a file there open for writing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_ROUNDS = 50
_PAUSE_S = 0.1


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """End the processes that write into this folder and remove it, on leaving or if this process dies first."""
    guardian = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # the driver handles Ctrl-C
    )
    try:
        yield
    finally:
        guardian.communicate()
        if guardian.returncode != 0:  # it was killed
            end(folder)


def end(folder: Path) -> None:
    """Kill the processes that write into this folder, except this one and its parent, and remove it."""
    for _ in range(_ROUNDS):  # a killed process may still write its last line there, or have started another
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        writers = [pid for pid in pids if _kill_writer(pid, folder)]
        shutil.rmtree(folder, ignore_errors=True)
        if not writers and not folder.exists():
            break
        time.sleep(_PAUSE_S)


def _kill_writer(pid: int, folder: Path) -> bool:
    """Kill a process if it writes into this folder, and return whether it did."""
    if pid in (1, os.getpid(), os.getppid()):
        return False
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user
        process = os.pidfd_open(pid)  # from here on, a reused process id cannot be mistaken for it
        try:
            if _writes(pid, f"{folder}/"):
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
        finally:
            os.close(process)
    return False


def _writes(pid: int, below: str) -> bool:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if str(file.readlink()).startswith(below) and file.lstat().st_mode & 0o200:
                return True
    return False


def main(folder: str) -> None:
    sys.stdin.read()
    end(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
