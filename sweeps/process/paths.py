"""What a path leads to. Whatever that is, no function here raises, waits or reads."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind(path: str | Path) -> str:
    """Describe what the path leads to: `a file`, `a folder`, `a named pipe`, or why it leads to nothing."""
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "something else")  # noqa: PTH116 - a Path refuses less
    except FileNotFoundError:
        return "a path where there is none"
    except OSError as error:
        return f"a path that cannot be followed ({error.strerror})"
    except ValueError:
        return "a path with a zero byte"


def is_file(path: str | Path) -> bool:
    return kind(path) == "a file"


def is_folder(path: str | Path) -> bool:
    return kind(path) == "a folder"


def not_readable(path: str | Path) -> str | None:
    """Return what is there instead of a file that this user may read; None where there is one."""
    if (received := kind(path)) != "a file":
        return received
    return None if os.access(path, os.R_OK, effective_ids=True) else "a file that this user may not read"


def shortened(text: str, most: int = 200) -> str:
    """Return the text, or its beginning and its length where it is too long for a sentence."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
