"""A sweep's durable record: `plan.json` and `results.jsonl` in the sweep's folder.

Once `append` returns, a result survives a killed driver, a power cut and the failure of any sink. The plan is replaced
as a whole or not at all; results are lines, so that a crash leaves at worst one unfinished last line, which readers
drop and the next writer cuts off.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tracking.folder import files
from tracking.record import FORMAT, Result, Sweep
from tracking.schema.reading import FormatError
from tracking.text.printable import printable

PLAN = "plan.json"
RESULTS = "results.jsonl"
DRIVER_LOCK = "journal.lock"
_LARGEST_PLAN = 2**28
_LARGEST_JOURNAL = 2**33
_LONGEST_LINE = 2**26
"""Most bytes read of a plan, a journal and one result: many times what the largest sweep writes."""
_NO_RECORD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)
"""What reading raises where a file holds anything but a record."""

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
        """Replace the plan. Raises JournalError, which leaves the old plan in place."""
        self.lock()
        try:
            files.write(self.folder, PLAN, json.dumps(sweep.to_json(), indent=1).encode() + b"\n")
        except OSError as error:
            raise JournalError(f"{self.folder / PLAN} could not be written: {error.strerror}") from error

    def read_plan(self) -> Sweep:
        """The plan as it was last written. Raises JournalError."""
        path = self.folder / PLAN
        data: Any = None
        try:
            data = json.loads(files.read(self.folder, PLAN, _LARGEST_PLAN, follow=True))
            sweep = Sweep.from_json(data)
            for trial in sweep.trials:
                _ = trial.trial_id  # fails for what cannot be hashed; the id is cached
        except (FileNotFoundError, NotADirectoryError) as error:
            raise JournalError(f"expected a sweep's folder with a {PLAN}. Received: {self.folder}") from error
        except OSError as error:
            raise JournalError(f"{path} could not be read: {error.strerror}") from error
        except _NO_RECORD as error:
            if _is_newer(data):
                raise JournalError(f"{path}: {error}") from error
            raise JournalError(f"{path} is not a sweep's plan: {_words(error)}") from error
        return sweep

    def append(self, result: Result) -> None:
        """Append one result and flush it to disk. Raises JournalError, which leaves earlier results intact."""
        line = json.dumps(result.to_json(), separators=(",", ":")).encode() + b"\n"
        self.lock()
        end: int | None = None
        try:
            if self._file is None:
                self._file = self._open_results()
            end = os.lseek(self._file, 0, os.SEEK_END)
            files.write_all(self._file, line)
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
            with os.fdopen(files.open_to_read(self.folder, RESULTS, _LARGEST_JOURNAL, follow=True), "rb") as file:
                for number, line in enumerate(_lines(file), start=1):
                    if (result := self._result(line, f"{path}, line {number}")) is not None:
                        results[result.trial_id] = result
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"{path} could not be read: {error.strerror}") from error
        return list(results.values())

    def _result(self, line: _Line, where: str) -> Result | None:
        """The result in the line; None, with a note, if there is none. Raises JournalError."""
        if line.cut:
            self._note(f"{where} is longer than {_LONGEST_LINE:,} bytes and was left out")
            return None
        if not line.ended:
            self._note(f"{where} is unfinished (the writer was cut off) and was left out")
            return None
        data: Any = None
        try:
            data = json.loads(line.content)
            result = Result.from_json(data)
            _ = result.trial_id  # fails for what cannot be hashed; the id is cached
        except _NO_RECORD as error:
            if _is_newer(data):
                raise JournalError(f"{where}: {error}") from error
            self._note(f"{where} is damaged and was left out: {_words(error)}")
            return None
        return result

    def _open_results(self) -> int:
        """Open for appending, after the last whole line."""
        path = self.folder / RESULTS
        descriptor = files.open_to_write(path, os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            whole = _end_of_last_line(descriptor, size)
            if whole < size:
                log.warning("%s: cut off an unfinished last line of %d bytes", printable(str(path)), size - whole)
                os.ftruncate(descriptor, whole)
            files.sync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _cut(self, end: int | None) -> None:
        """Remove what a failed append left; if that fails too, the next append reopens the file and does it."""
        if self._file is None:
            return
        try:
            if end is not None:
                os.ftruncate(self._file, end)
        except OSError:
            os.close(self._file)
            self._file = None

    def _note(self, sentence: str) -> None:
        sentence = printable(sentence)
        self.notes.append(sentence)
        log.warning("%s", sentence)


def take_lock(path: Path, *, wait: bool) -> int:
    """Lock a file and return its descriptor; closing it, or the end of the process, unlocks. Raises LockedError."""
    try:
        descriptor = files.open_to_write(path)
    except OSError as error:
        raise JournalError(f"{path} could not be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.fstat(descriptor).st_nlink == 1:  # or it would be written into another file too
            # For the message of whoever comes second; the lock itself is the kernel's.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise LockedError(
            f"another process{f' ({holder})' if holder.isdigit() else ''} is writing {path.parent}: "
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


class _Line(NamedTuple):
    content: bytes
    ended: bool
    """Whether a newline follows."""
    cut: bool = False
    """A line that is longer than any result, of which only the beginning was read."""


def _lines(file: BinaryIO) -> Iterator[_Line]:
    while content := file.readline(_LONGEST_LINE):
        ended = content.endswith(b"\n")
        if ended or len(content) < _LONGEST_LINE:
            yield _Line(content, ended)
            continue
        while rest := file.readline(2**20):
            if ended := rest.endswith(b"\n"):
                break
        yield _Line(b"", ended, cut=True)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Where the last newline ends; 0 where there is none."""
    end = size
    while end > 0:
        start = max(0, end - 2**20)
        place = os.pread(descriptor, end - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0


def _is_newer(data: Any) -> bool:
    """Whether a later version wrote it, in which case it is not damaged."""
    version = data.get("format") if isinstance(data, dict) else None
    return isinstance(version, int) and version > FORMAT


def _words(error: Exception) -> str:
    """What was wrong, on one line of bounded length."""
    words = str(error) if isinstance(error, FormatError) else repr(error)
    return printable(words[:300])
