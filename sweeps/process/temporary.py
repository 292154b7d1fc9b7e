"""Temporary folders and lock files in places that other users of the machine can write to.

Everything is in one folder of this user, `sweeps-UID` in TMPDIR, that nobody else can enter. Its name can be guessed,
so it is used only if it is a directory, belongs to this user and is closed to all others; where somebody else has taken
the name, the next number is tried. A `Folder` is locked as long as its owner lives, so that those left by killed
processes can be recognised.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sweeps.errors import UsageError
from sweeps.process import guardian
from tracking.folder import files

_LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket."""
_NAMES = 100
_LOCK = "lock"
_SHORT = "/tmp"
_outside: str | None = None
"""The machine's folder for temporary files, while this process has one of its own."""


def base(room: int = 0) -> Path:
    """Return this user's own folder: in TMPDIR or, where the path of a socket would become too long, in /tmp.

    `room` is the length of that path below the folder, in bytes. Raises UsageError where no folder can be made.
    """
    for place in _places():
        folder = _private(Path(place))
        if len(os.fsencode(folder)) + room <= _LONGEST_SOCKET:
            return folder
    raise UsageError([f"expected a TMPDIR with a path short enough for sockets. Received: {tempfile.gettempdir()}."])


def open_lock(path: Path) -> int:
    """Open a file to lock, made if need be; its content stays as it is.

    Raises OSError also for anything but a plain file of this user: a link could lead anywhere.
    """
    descriptor = files.open_to_write(path, mode=0o600)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise OSError(errno.EPERM, "it belongs to another user", str(path))
    os.fchmod(descriptor, 0o600)  # whatever the umask
    return descriptor


class Folder:
    """A fresh folder in `base`, named after its kind; `close` removes it unless its user has done so."""

    def __init__(self, kind: str, room: int = 0) -> None:
        """`room` is the length of the longest path of a socket below it, in bytes. Raises UsageError."""
        parent = base(len(f"/{kind}-12345678") + room)
        with _written_to(parent), _held(parent):
            self.path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=parent))
            try:
                self.path.chmod(0o700)  # whatever the umask
                self._lock = open_lock(self.path / _LOCK)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            except OSError:
                shutil.rmtree(self.path, ignore_errors=True)  # without a lock it would never be removed
                raise

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Keep the temporary files of this process and its libraries in a folder that is removed with the process.

    Libraries tidy up when the interpreter ends; the folder is removed after that, since what is registered first runs
    last.
    """
    global _outside
    folder = Folder("scratch")
    atexit.register(folder.close)
    _outside, tempfile.tempdir = tempfile.gettempdir(), str(folder.path)
    try:
        yield
    finally:
        tempfile.tempdir, _outside = _outside, None


def remove_abandoned() -> None:
    """Remove this user's folders whose owners are gone, and end the processes that still write there."""
    for place in _places():
        with contextlib.suppress(UsageError, OSError):  # there is none, or somebody else is removing it
            parent = _private(Path(place))
            with _held(parent):
                for folder in sorted(parent.glob("*-*/")):
                    with contextlib.suppress(OSError):  # its owner lives
                        _end_abandoned(folder)


def _end_abandoned(folder: Path) -> None:
    """End the processes that write into a folder, and remove it. Raises OSError where its owner lives."""
    descriptor = None
    # A folder without a lock was removed before, and made again by a process that was slow to die.
    if os.path.lexists(folder / _LOCK):
        descriptor = open_lock(folder / _LOCK)
    try:
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        guardian.end(folder)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _places() -> list[str]:
    try:
        return list(dict.fromkeys([_outside or tempfile.gettempdir(), _SHORT]))
    except OSError as error:
        expected = "expected a folder for temporary files that can be written (TMPDIR)"
        raise UsageError([f"{expected}. Received: {error.strerror}."]) from error


def _private(place: Path) -> Path:
    """Return `sweeps-UID` in this place, or the first numbered name that nobody else has taken."""
    for number in range(_NAMES):
        folder = place / f"sweeps-{os.geteuid()}{f'-{number}' if number else ''}"
        with _written_to(place):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                folder.chmod(0o700)  # whatever the umask
            status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return folder
    raise UsageError([f"expected a folder for temporary files (TMPDIR) no other user has taken. Received: {place}."])


@contextlib.contextmanager
def _written_to(place: Path) -> Iterator[None]:
    """Raise UsageError where the body cannot write to this place."""
    try:
        yield
    except OSError as error:
        expected = "expected a folder for temporary files that can be written (TMPDIR)"
        raise UsageError([f"{expected}. Received: {place} ({error.strerror})."]) from error


@contextlib.contextmanager
def _held(parent: Path) -> Iterator[None]:
    """Keep others from making or removing folders there: one not locked yet would seem abandoned."""
    descriptor = open_lock(parent / _LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
