"""Reads and writes in a folder whose content may be anything, and may be somebody else's.

Only plain files of a bounded size are read: a pipe or a device might never end. A file is written under a new name and
then moved into place, so that a link there is replaced and not followed; the folders on the way are opened one inside
the other, and none of them may be a link either. Every function raises OSError with an explanation in `strerror`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_INNER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_BYTES = 2**26
"""Largest file that a trial leaves for a report or for the terminal."""


def read(folder: str | Path, name: str, most: int = MOST_BYTES, *, follow: bool = False) -> bytes:
    """The content of a plain file of at most `most` bytes below the folder; `follow`: it may be a link."""
    with os.fdopen(open_to_read(folder, name, most, follow=follow), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise _too_large(Path(folder, name), len(content), most)
    return content


def end(folder: str | Path, name: str, length: int) -> bytes:
    """The last `length` bytes of a plain file below the folder."""
    with os.fdopen(open_to_read(folder, name), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - length))
        return file.read(length)


def open_to_read(folder: str | Path, name: str, most: int | None = None, *, follow: bool = False) -> int:
    """The descriptor of a plain file below the folder, of at most `most` bytes; `follow`: it may be a link."""
    *between, last = PurePath(name).parts
    with _inside(folder, between) as place:
        status = os.stat(last, dir_fd=place, follow_symlinks=follow)
        _expect_plain(status, Path(folder, name))  # before it is opened: a device may act on that
        links = 0 if follow else os.O_NOFOLLOW
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | links
        descriptor = os.open(last, flags, dir_fd=place)
    status = os.fstat(descriptor)
    try:
        _expect_plain(status, Path(folder, name))
        if most is not None and status.st_size > most:
            raise _too_large(Path(folder, name), status.st_size, most)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write(folder: str | Path, name: str, content: bytes) -> None:
    """Replace a file below the folder so that a reader, or a power cut, finds the old content or the new one."""
    *between, last = PurePath(name).parts
    with _inside(folder, between, make=True) as place:
        temporary = f".{last}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o644, dir_fd=place)
            try:
                write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, last, src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=place)
            raise
        os.fsync(place)


def open_to_write(path: Path, flags: int = 0, mode: int = 0o644) -> int:
    """The descriptor of a plain file for reading and writing, created if missing; its content is kept."""
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, and not a file", str(path)) from None
        raise
    try:
        _expect_plain(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, content: bytes) -> None:
    """Write the whole content: one `os.write` may write less, above all on a disk that is nearly full."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names(folder: str | Path, name: str) -> list[str]:
    """Sorted names in a folder below the folder; empty where it is no folder, or a link to one."""
    try:
        with _inside(folder, PurePath(name).parts) as place:
            return sorted(os.listdir(place))  # noqa: PTH208 - a Path knows no descriptor
    except OSError:
        return []


@contextlib.contextmanager
def _inside(folder: str | Path, between: tuple[str, ...] | list[str], *, make: bool = False) -> Iterator[int]:
    """The descriptor of the innermost folder; `make` creates missing ones."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path = Path(folder)
    try:
        for part in between:
            path /= part
            if part == "..":
                raise OSError(errno.EINVAL, "it leads out of its folder", str(path))
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=place)
            inner = _opened(part, place, path)
            os.close(place)
            place = inner
        yield place
    finally:
        os.close(place)


def _opened(part: str, place: int, path: Path) -> int:
    try:
        return os.open(part, _INNER, dir_fd=place)
    except NotADirectoryError:
        kind = _kind(os.stat(part, dir_fd=place, follow_symlinks=False).st_mode)
        raise NotADirectoryError(errno.ENOTDIR, f"{path.name} is {kind}, and not a folder", str(path)) from None


def _expect_plain(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        error = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(error, f"it is {_kind(status.st_mode)}, and not a file", str(path))


def _kind(mode: int) -> str:
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "a file")


def _too_large(path: Path, size: int, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it has {size:,} bytes, more than the {most:,} that are read", str(path))
