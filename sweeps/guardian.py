"""Ends Ray's processes when the driver that started them has not lived to do it, and removes Ray's folder.

Ray's larger processes end with their driver, but its agents take up to half a minute to find out. The guardian is told
which processes they are, waits for the driver's end of a pipe to close, for whatever reason, and kills what is left.
Then it removes the folder of sockets and logs, which Ray would leave. Run as a script, with the standard library only,
so that it starts at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def guarded(pids: Iterable[int], folder: str) -> Iterator[None]:
    """Kill these processes and remove this folder on leaving, or when this process dies before that."""
    guardian = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is the driver's to handle
    )
    lines = [folder, *(f"{pid} {started}" for pid in pids if (started := _started(pid)) is not None)]
    # Before the body, because a driver that is killed tells nothing any more.
    if guardian.stdin is not None:
        guardian.stdin.write("\n".join(lines))
        guardian.stdin.flush()
    try:
        yield
    finally:
        guardian.communicate()


def main() -> None:
    told = sys.stdin.read().splitlines()
    if not told:  # the driver was killed before it could say anything
        return
    folder, *lines = told
    for line in lines:
        pid, started = line.split()
        if _started(int(pid)) == started:  # else the number is another process's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    for _ in range(50):  # what was killed may still be writing its last line there
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            break
        time.sleep(0.1)


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None: there is no such process."""
    try:
        # The second field is the program's name in parentheses, and may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return None


if __name__ == "__main__":
    main()
