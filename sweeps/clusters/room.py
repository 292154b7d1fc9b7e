"""Whether this machine has room for Ray: what Ray needs to start, and the reason if it did not."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from sweeps.machine import cgroup

_THREADS = 250
"""Threads that Ray's processes have on a machine with few cores, plus some to spare."""
_THREADS_A_CORE = 8
_FILES = 256
"""The fewest open files that each of Ray's processes needs."""
_FILES_WANTED = 4096
_DISK = 2**25
"""The least disk space that Ray's logs need, bytes."""
_INODES = 256
_LONGEST_LOG = 2**18
_ANSWER_S = 10.0
_CAUSES = {
    os.strerror(number): number
    for number in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENETUNREACH,
    )
}
"""Error numbers by the system's messages, which Ray's logs quote."""
_LOGS = ("gcs_server.err", "raylet.err", "gcs_server.out", "raylet.out", "runtime_env_agent.err", "dashboard_agent.err")


def problems(folder: Path) -> list[str]:
    """Return what keeps Ray from starting with its files in `folder`, after raising the limits that may be raised."""
    return [*_loopback(), *_threads(), *_files(), *_disk(folder)]


def why(folder: Path, error: BaseException) -> str:
    """Return why Ray did not start with its files in `folder`, as far as its logs or this error show."""
    texts = [str(error), *(_end(path) for name in _LOGS for path in sorted(folder.glob(f"ray/session_2*/logs/{name}")))]
    for message in _CAUSES:
        if any(message in text for text in texts):
            return _explanation(_CAUSES[message], folder)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        return f"it ended at once; its limit on address space (ulimit -v) is {limit // 2**20} MB"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _explanation(number: int, folder: Path) -> str:
    message = os.strerror(number)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{folder} ({message})"
    limits = {
        errno.EAGAIN: ("processes", resource.RLIMIT_NPROC, "-u"),
        errno.EMFILE: ("open files", resource.RLIMIT_NOFILE, "-n"),
        errno.ENOMEM: ("address space", resource.RLIMIT_AS, "-v"),
    }
    if number in limits:
        name, kind, option = limits[number]
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            return f"{message}; its limit on {name} (ulimit {option}) is {limit}"
    return message


def _loopback() -> Iterator[str]:
    try:
        with socket.socket() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            client.settimeout(_ANSWER_S)
            client.connect(listener.getsockname())
    except OSError as error:
        yield f"nothing can be reached at 127.0.0.1 ({error.strerror or error}); `ip link set lo up` brings it up"


def _threads() -> Iterator[str]:
    needed = _THREADS + _THREADS_A_CORE * (os.cpu_count() or 1)
    advice = f"and Ray needs about {needed}"
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and soft != resource.RLIM_INFINITY:  # root has no such limit
        used = _threads_of(os.getuid())
        if soft - used < needed and (hard == resource.RLIM_INFINITY or hard > soft):
            resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
            soft = hard
        if soft != resource.RLIM_INFINITY and soft - used < needed:
            yield f"the limit on processes and threads (ulimit -u) is {soft}, {used} are in use, {advice}"
    if (left := cgroup.processes_left()) is not None and left < needed:
        yield f"the container's limit leaves {left} processes and threads, {advice}"


def _threads_of(user: int) -> int:
    processes = psutil.process_iter(["uids", "num_threads"])
    return sum(
        process.info["num_threads"] or 0
        for process in processes
        if process.info["uids"] and process.info["uids"].real == user
    )


def _files() -> Iterator[str]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        yield f"the limit on open files (ulimit -n) is {soft}, and Ray needs about {_FILES}"


def _disk(folder: Path) -> Iterator[str]:
    if (free := shutil.disk_usage(folder).free) < _DISK:
        yield f"{folder} has {free / 2**20:.0f} MB of free space, and Ray's logs take up to {_DISK // 2**20} (TMPDIR)"
    status = os.statvfs(folder)
    if status.f_files and status.f_favail < _INODES:
        yield f"{folder} has room for {status.f_favail} files, and Ray creates about {_INODES} (TMPDIR)"


def _end(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LONGEST_LOG))
            return file.read(_LONGEST_LOG).decode(errors="replace")
    except OSError:
        return ""
