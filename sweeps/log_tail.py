"""The end of a trial's log: the trial may have written any amount of anything into it, or put something else there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tracking.printable import printable_lines

_BYTES = 2**16
_LONGEST_LINE = 500


def end(path: Path, size: int) -> bytes:
    """The last bytes of a plain file, at most `size`; none of what is a link, a pipe, a folder or not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b""
        return os.pread(descriptor, size, max(0, status.st_size - size))
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def tail(path: Path, lines: int) -> str:
    """The last lines of a log, made printable; of a long one, its beginning."""
    text = end(path, _BYTES).decode(errors="replace").strip()
    return "\n".join(map(_short, printable_lines(text).splitlines()[-lines:]))


def _short(line: str) -> str:
    more = len(line) - _LONGEST_LINE
    return line if more <= 0 else f"{line[:_LONGEST_LINE]}... ({more} characters more)"
