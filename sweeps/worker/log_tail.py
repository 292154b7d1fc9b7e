"""The end of a trial's log, whose content may be anything of any size, and which may not even be a file."""

from __future__ import annotations

from pathlib import Path

from tracking.folder import files
from tracking.text.printable import printable_lines

_BYTES = 2**16
_LONGEST_LINE = 500


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a log, printable and cut where they are long; empty where it is not a plain file."""
    try:
        text = files.end(path.parent, path.name, _BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
    return "\n".join(map(_short, printable_lines(text).splitlines()[-lines:]))


def _short(line: str) -> str:
    more = len(line) - _LONGEST_LINE
    return line if more <= 0 else f"{line[:_LONGEST_LINE]}... ({more} characters more)"
