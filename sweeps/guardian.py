"""Ends Ray's processes when the driver that started them has not lived to do it.

Ray's larger processes end with their driver, but its agents take up to half a minute to find out. The guardian is told
which processes they are, waits for the driver's end of a pipe to close, for whatever reason, and kills what is left.
Run as a script, with the standard library only, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def guarded(pids: Iterable[int]) -> Iterator[None]:
    """Kill these processes on leaving, or when this process dies before that."""
    guardian = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is the driver's to handle
    )
    told = "".join(f"{pid} {started}\n" for pid in pids if (started := _started(pid)) is not None)
    # Before the body, because a driver that is killed tells nothing any more.
    if guardian.stdin is not None:
        guardian.stdin.write(told)
        guardian.stdin.flush()
    try:
        yield
    finally:
        guardian.communicate()


def main() -> None:
    for line in sys.stdin.read().splitlines():
        pid, started = line.split()
        if _started(int(pid)) == started:  # else the number is another process's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None: there is no such process."""
    try:
        # The second field is the program's name in parentheses, and may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return None


if __name__ == "__main__":
    main()
