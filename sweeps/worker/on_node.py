"""A trial on its node: its folder, cores and environment, and how its files get to the driver.

On the driver's machine a trial writes into the sweep's folder. Elsewhere it writes below the folder of that node's fork
server, which is always removed with the server, and its log and files travel with the result as a parcel.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import tarfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sweeps.errors import DispatchError
from sweeps.machine import cores
from sweeps.machine import node as devices
from sweeps.machine.node import Node
from sweeps.worker.isolate import run_trial
from tracking.folder import trial_files
from tracking.folder.trial_folder import FILES, LOG, TrialFolder
from tracking.record import Pass, Result, Trial
from tracking.text.printable import printable

LARGEST_PARCEL = 2**31
"""Bytes of a trial's files that travel; what exceeds them is lost, and the log and the result say so."""
_MOST_NAMED = 5
_LONGEST_NAME = 200
_LARGEST_PART = 2**20
_LONGEST_LOG = 2**24
"""Bytes of a log's end that travel."""
_ROOM_TO_WRITE = 2**16
"""Free bytes below which a trial may have failed because it could not write its log."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and with what a trial runs."""

    server: str
    """Address of the fork server."""
    node: Node
    folder: Path | None
    """The sweep's folder; None where it is on another machine."""
    spared: int = 0
    """Cores left to the driver."""


def run(
    trial: Trial, sweep_id: str, place: Place, passes: tuple[Pass, ...], gpu_ids: tuple[str, ...]
) -> tuple[Result, bytes]:
    """Run these passes of the trial here and return its result and the parcel for `unpack`.

    The parcel is empty where the trial wrote in place. Raises DispatchError where nothing can be written.
    """
    folder = TrialFolder.within(place.folder or Path(place.server).parent, trial.trial_id)
    device, node = trial.device, place.node
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DispatchError(
            f"expected a folder that can be written. Received: {error.filename} ({error.strerror})"
        ) from error
    start = time.perf_counter()
    with cores.claim(node.cores_for(device), alone=device.exclusive_node, spared=place.spared) as held:
        waited_s = time.perf_counter() - start
        env = devices.environment(device, gpu_ids)
        result = run_trial(trial, passes, sweep_id=sweep_id, server=place.server, cores=held, env=env, folder=folder)
    if not result.ok and folder.path.exists() and shutil.disk_usage(folder.path).free < _ROOM_TO_WRITE:
        raise DispatchError(f"expected room for results. Received: {folder.path} (No space left on device)")
    result = replace(result, phases={"cores": waited_s, **result.phases})
    if place.folder:
        parcel, reasons = b"", _lost(trial_files.look(folder.files)[1], "is not among the artifacts")
    else:
        parcel, left = pack(folder)
        reasons = _lost(left)
    return replace(result, quality=(*result.quality, *reasons)), parcel


def pack(folder: TrialFolder, largest: int = LARGEST_PARCEL) -> tuple[bytes, dict[str, int | str]]:
    """Move the log and files of a trial into a parcel of at most `largest` bytes of files; checkpoints stay.

    Returns the parcel and, by name, each file that is lost because it is not in the parcel: its size in bytes where it
    is too large, or the reason why it was not taken.
    """
    files, odd = trial_files.look(folder.files)
    left: dict[str, int | str] = {f"{FILES}/{name}": reason for name, reason in odd.items()}
    remarks = [f"{FILES}/{name} did not travel: {reason}" for name, reason in odd.items()]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as parcel:
        for file in files:
            if file.size > largest:
                name = f"{FILES}/{printable(file.name)}"
                left[name] = file.size
                remarks.append(f"{name} did not travel: {file.size} bytes, {largest} were left")
                continue
            try:
                with trial_files.open_regular(file.path) as opened:
                    content = opened.read(file.size)
            except OSError as error:
                left[f"{FILES}/{printable(file.name)}"] = error.strerror or str(error)
                continue
            largest -= len(content)
            _add(parcel, f"{FILES}/{file.name}", content)
        text = "".join(f"{line}\n" for line in remarks)
        _add(parcel, LOG, (trial_files.read_end(folder.log, _LONGEST_LOG) + text.encode()) or b"\n")
    for path in (folder.files, folder.log):
        _remove(path)
    with contextlib.suppress(OSError):
        folder.path.rmdir()
    return buffer.getvalue(), left


def unpack(parcel: bytes, folder: TrialFolder) -> list[str]:
    """Unpack the files of a trial into its folder here, and return reasons to doubt that they are complete.

    Raises DispatchError where nothing can be written.
    """
    reasons: list[str] = []
    left = LARGEST_PARCEL + 2 * _LONGEST_LOG
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=_Bounded(parcel), mode="r:") as opened:
            for count, entry in enumerate(opened):
                left -= entry.size
                if left < 0 or count > trial_files.MOST_FILES:
                    raise tarfile.TarError("more than a trial may leave behind")
                if not entry.isfile():
                    reasons.append(f"files: {printable(entry.name)} is not a file and was left out")
                    continue
                opened.extract(entry, folder.path, filter="data")
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        reasons.append(f"files: those that the node sent are damaged ({printable(str(error))})")
    except OSError as error:
        if error.errno is None:  # gzip's own
            return [*reasons, f"files: those that the node sent are damaged ({printable(str(error))})"]
        raise DispatchError(f"expected room for results. Received: {folder.path} ({error.strerror})") from error
    return reasons


class _Bounded(gzip.GzipFile):
    """A parcel's content, of which no large part, such as an entry's description, is ever read at once."""

    def __init__(self, parcel: bytes) -> None:
        super().__init__(fileobj=io.BytesIO(parcel), mode="rb")

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_PART:
            raise tarfile.ReadError(f"a part of {size} bytes")
        return super().read(size)


def _add(parcel: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o644
    parcel.addfile(entry, io.BytesIO(content))


def _remove(path: Path) -> None:
    """Remove whatever a trial has left under that name."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def _lost(left: Mapping[str, int | str], consequence: str = "stayed on the node and is lost") -> list[str]:
    """Return reasons to doubt that a trial's files are complete, the largest files first."""
    named = sorted(left.items(), key=lambda item: -item[1] if isinstance(item[1], int) else 0)[:_MOST_NAMED]
    reasons = [
        f"files: {name[:_LONGEST_NAME]} ({f'{why} bytes' if isinstance(why, int) else why}) {consequence}"
        for name, why in named
    ]
    more = len(left) - len(named)
    return [*reasons, f"files: {more} more {consequence.replace('is', 'are')}"] if more else reasons
