"""The files that a trial has left, read without trusting whoever wrote them.

The trial's code may have put anything into its folder: links to the user's secrets, pipes that never end, holes of
gigabytes, names that no terminal and no server accepts. Regular files are copied, and each other file is left out with
a reason. No link is followed out of the folder.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tracking.text.printable import printable

MOST_FILES = 10_000
LARGEST_HOLE = 2**31
"""Bytes of a file above which most of it has to be written to disk rather than be a hole."""


@dataclass(frozen=True)
class TrialFile:
    """A file to be copied."""

    name: str
    """Its path within the folder."""
    path: Path
    """Where its content is: a link within the folder counts as its target."""
    size: int


def look(folder: Path) -> tuple[list[TrialFile], dict[str, str]]:
    """The files below a folder in order of their names, and why others are left out, by name."""
    taken: list[TrialFile] = []
    left: dict[str, str] = {}
    try:
        top = folder.lstat()
    except OSError:
        return taken, left
    if not stat.S_ISDIR(top.st_mode):
        return taken, {folder.name: f"expected a folder. Received: {_kind(top)}"}
    real = folder.resolve()

    def note(name: str, reason: str) -> None:
        left[printable(name)] = reason

    for place, folders, names in os.walk(folder, onerror=lambda error: note(str(error.filename), str(error.strerror))):
        folders.sort()
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(place, name)
            relative = str(path.relative_to(folder))
            if len(taken) >= MOST_FILES:
                note(relative, f"beyond {MOST_FILES} files")
                continue
            try:
                size, content = _regular(path, real)
            except OSError as error:
                note(relative, error.strerror or str(error))
            else:
                taken.append(TrialFile(relative, content, size))
    return taken, left


def _regular(path: Path, real_folder: Path) -> tuple[int, Path]:
    """The size of a regular file, and where it is. Raises OSError for anything that is not to be copied."""
    try:
        content = path.resolve(strict=True) if path.is_symlink() else path
    except RuntimeError as error:  # what Python 3.11 makes of a loop
        raise OSError(0, "a link that leads nowhere") from error
    if content is not path and not content.is_relative_to(real_folder):
        raise OSError(0, "a link out of the folder")
    with open_regular(content) as file:
        status = os.fstat(file.fileno())
    if status.st_size > LARGEST_HOLE and status.st_blocks * 512 < status.st_size // 2:
        raise OSError(0, f"{status.st_size} bytes")
    return status.st_size, content


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file in binary mode, but no link, pipe or device. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(0, f"{_kind(status)}, no file")


def read_end(path: Path, longest: int) -> bytes:
    """The last bytes of a file; empty where there is no regular file of that name."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - longest))
            return file.read(longest)
    except OSError:
        return b""


def _kind(status: os.stat_result) -> str:
    tests: dict[str, Callable[[int], bool]] = {
        "a link": stat.S_ISLNK,
        "a folder": stat.S_ISDIR,
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
    }
    return next((words for words, test in tests.items() if test(status.st_mode)), "a file")
