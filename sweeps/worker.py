"""A trial on its node: its folder, its cores, its environment, and how what it leaves gets to the driver.

On the driver's machine a trial writes into the sweep's folder. Elsewhere it writes below the folder of that node's fork
server, which goes with the server whatever happens, and `log.txt` and `files/` travel with the result as a parcel.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sweeps import cores, devices
from sweeps.devices import Node
from sweeps.errors import DispatchError
from sweeps.isolate import run_trial
from tracking.record import Pass, Result, Trial

LARGEST_PARCEL = 2**31
"""Bytes of a trial's files that travel; what is beyond them is lost, and the log and the result say so."""
_MOST_NAMED = 5
_LONGEST_LOG = 2**24
"""Bytes of a log's end that travel."""
_ROOM_TO_WRITE = 2**16
"""Free bytes below which a trial that fails may have failed for want of them, when it wrote its log."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and with what a trial runs."""

    server: str
    """Address of the fork server."""
    node: Node
    folder: Path | None
    """The sweep's folder; None: it is on another machine."""
    spared: int = 0
    """Cores that are the driver's."""


def folder_of(trial: Trial, sweep: Path) -> Path:
    """The trial's own folder within that of its sweep."""
    return sweep / "trials" / trial.trial_id


def run(
    trial: Trial, sweep_id: str, place: Place, passes: tuple[Pass, ...], gpu_ids: tuple[str, ...]
) -> tuple[Result, bytes]:
    """Run these passes of the trial here; its result, and the parcel for `unpack` (empty where it wrote in place).

    Raises DispatchError where nothing can be written.
    """
    folder = folder_of(trial, place.folder or Path(place.server).parent)
    device, node = trial.device, place.node
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DispatchError(
            f"expected a folder that can be written. Received: {error.filename} ({error.strerror})"
        ) from error
    asked = time.perf_counter()
    with cores.claim(node.cores_for(device), alone=device.exclusive_node, spared=place.spared) as held:
        waited_s = time.perf_counter() - asked
        env = devices.environment(device, gpu_ids)
        log = folder / "log.txt"
        result = run_trial(trial, passes, sweep_id=sweep_id, server=place.server, cores=held, env=env, log=log)
    if not result.ok and folder.exists() and shutil.disk_usage(folder).free < _ROOM_TO_WRITE:
        raise DispatchError(f"expected room for results. Received: {folder} (No space left on device)")
    result = replace(result, phases={"cores": waited_s, **result.phases})
    if place.folder:
        return result, b""
    parcel, left = pack(folder)
    return replace(result, quality=(*result.quality, *_lost(left))), parcel


def pack(folder: Path, largest: int = LARGEST_PARCEL) -> tuple[bytes, dict[str, int]]:
    """What a trial has left in `folder` for others, and remove it; `checkpoints/` stays for another try.

    Beside the parcel, the size in bytes of each file that did not go into its `largest` bytes and is lost.
    """
    told = []
    left: dict[str, int] = {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as parcel:
        for path in sorted((folder / "files").rglob("*")):
            size = path.lstat().st_size
            if path.is_file() and size > largest:
                left[str(path.relative_to(folder))] = size
                told.append(f"{path.relative_to(folder)} did not travel: {size} bytes, {largest} were left")
            elif path.is_file():
                largest -= size
                parcel.add(path, str(path.relative_to(folder)), recursive=False)
        log = (_end(folder / "log.txt") + "".join(f"{line}\n" for line in told).encode()) or b"\n"
        entry = tarfile.TarInfo("log.txt")
        entry.size, entry.mtime = len(log), int(time.time())
        parcel.addfile(entry, io.BytesIO(log))
    shutil.rmtree(folder / "files", ignore_errors=True)
    (folder / "log.txt").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
    return buffer.getvalue(), left


def unpack(parcel: bytes, folder: Path) -> None:
    """Put what a trial has left elsewhere into its folder here. Raises DispatchError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(parcel), mode="r:gz") as opened:
            opened.extractall(folder, filter="data")
    except OSError as error:
        raise DispatchError(f"expected room for results. Received: {folder} ({error.strerror})") from error


def _lost(left: Mapping[str, int]) -> list[str]:
    """Reasons to doubt that a trial has left all that it should, the largest files first."""
    named = sorted(left.items(), key=lambda item: -item[1])[:_MOST_NAMED]
    reasons = [f"files: {name} ({size} bytes) stayed on the node and is lost" for name, size in named]
    more = len(left) - len(named)
    return [*reasons, f"files: {more} more stayed on the node and are lost"] if more else reasons


def _end(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LONGEST_LOG))
            return file.read()
    except OSError:  # the trial never came to write one
        return b""
