"""The sweep's own durable record: `plan.json` and `results.jsonl` in the sweep's folder.

A result that `append` returned from survives the driver, the power cut and every sink. The plan is replaced as a whole
or not at all; results are lines, so that the worst a crash leaves is one unfinished last line, which readers drop and
the next writer cuts off.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracking.record import FormatError, Result, Sweep

PLAN = "plan.json"
RESULTS = "results.jsonl"
DRIVER_LOCK = "journal.lock"

log = logging.getLogger(__name__)


class JournalError(Exception):
    """The journal could not be written, read or locked; one sentence says which and why."""


class LockedError(JournalError):
    """Another process holds the lock."""


class Journal:
    """The record in one folder. Reading needs no lock; the first write takes it and keeps it until `close`.

    `notes` holds, after `read`, one sentence for each line that was not a result.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.notes: list[str] = []
        self._lock: int | None = None
        self._file: int | None = None

    def __enter__(self) -> Journal:
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lock(self) -> None:
        """Become the folder's only writer. Raises LockedError when another process or Journal is."""
        if self._lock is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise JournalError(f"the sweep's folder {self.folder} could not be made: {error.strerror}") from error
            self._lock = take_lock(self.folder / DRIVER_LOCK, wait=False)

    def close(self) -> None:
        """Let another process write."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def write_plan(self, sweep: Sweep) -> None:
        """Replace the plan. Raises JournalError, and then the old plan is still there."""
        self.lock()
        try:
            write_atomically(self.folder / PLAN, json.dumps(sweep.to_json(), indent=1).encode() + b"\n")
        except OSError as error:
            raise JournalError(f"{self.folder / PLAN} could not be written: {error.strerror}") from error

    def read_plan(self) -> Sweep:
        """The plan as it was last written. Raises JournalError."""
        path = self.folder / PLAN
        try:
            return Sweep.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError as error:
            raise JournalError(f"expected a sweep's folder with a {PLAN}. Received: {self.folder}") from error
        except OSError as error:
            raise JournalError(f"{path} could not be read: {error.strerror}") from error
        except FormatError as error:
            raise JournalError(f"{path}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(f"{path} is not a sweep's plan: {error!r}") from error

    def append(self, result: Result) -> None:
        """Put one result on the disk. Raises JournalError, and then the earlier results are as they were."""
        line = json.dumps(result.to_json(), separators=(",", ":")).encode() + b"\n"
        self.lock()
        end: int | None = None
        try:
            if self._file is None:
                self._file = self._open_results()
            end = os.lseek(self._file, 0, os.SEEK_END)
            _write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            self._cut(end)
            raise JournalError(
                f"{self.folder / RESULTS}: the result of trial {result.trial_id} could not be written: {error.strerror}"
            ) from error

    def read(self) -> list[Result]:
        """The newest result of each trial, in the order in which the trials first appeared.

        A line that is no result is left out, logged and kept in `notes`. Raises JournalError where the file cannot
        be read at all, or holds records of a newer format.
        """
        path = self.folder / RESULTS
        self.notes = []
        results: dict[str, Result] = {}
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"{path} could not be read: {error.strerror}") from error
        for number, (line, whole) in enumerate(_lines(content), start=1):
            if not whole:
                self._note(f"{path}: line {number} is unfinished (the writer was cut off) and was left out")
                continue
            try:
                result = Result.from_json(json.loads(line))
            except FormatError as error:
                raise JournalError(f"{path}, line {number}: {error}") from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self._note(f"{path}: line {number} is damaged and was left out: {error!r:.200}")
                continue
            results[result.trial_id] = result
        return list(results.values())

    def _open_results(self) -> int:
        """Open for appending, after the last whole line."""
        path = self.folder / RESULTS
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                log.warning("%s: cut off an unfinished last line of %d bytes", path, len(content) - whole)
                os.ftruncate(descriptor, whole)
            sync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _cut(self, end: int | None) -> None:
        """Take back what a failed append left; where even that fails, the next append opens anew and does it."""
        if self._file is None:
            return
        try:
            if end is not None:
                os.ftruncate(self._file, end)
        except OSError:
            os.close(self._file)
            self._file = None

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        log.warning(sentence)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that a reader, or a power cut, finds the old content or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path, *, wait: bool) -> int:
    """Lock a file and return its descriptor; closing it, or the end of the process, unlocks. Raises LockedError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(f"{path} could not be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        # For the message of whoever comes second; the lock itself is the kernel's.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise LockedError(
            f"another process{f' ({holder})' if holder else ''} is writing {path.parent}: "
            "wait for it to end, or choose another folder"
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise JournalError(f"{path} could not be locked: {error.strerror}") from error
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock on `path`, hold it within the block."""
    descriptor = take_lock(path, wait=True)
    try:
        yield
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    # os.write may write less than it was given, above all on a disk that is getting full.
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _lines(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """Each line and whether it was ended."""
    lines = content.split(b"\n")
    for line in lines[:-1]:
        yield line, True
    if lines[-1]:
        yield lines[-1], False
