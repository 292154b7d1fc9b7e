"""Whether Ray can start on this machine: what it needs, and the reason when it could not."""

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
"""Threads that Ray's processes have on a machine with few cores, and some to spare."""
_THREADS_A_CORE = 8
_FILES = 256
"""Files that one of Ray's processes may open, at least."""
_FILES_WANTED = 4096
_DISK = 2**25
"""Bytes that Ray's logs may take, at least."""
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
"""What Ray's logs may say of the system, in the system's own words."""
_LOGS = ("gcs_server.err", "raylet.err", "gcs_server.out", "raylet.out", "runtime_env_agent.err", "dashboard_agent.err")


def problems(folder: Path) -> list[str]:
    """What keeps Ray from starting with its files in `folder`, in words; limits that may be raised are raised first."""
    return [*_loopback(), *_threads(), *_files(), *_disk(folder)]


def why(folder: Path, error: BaseException) -> str:
    """The reason why Ray did not start with its files in `folder`, as far as its logs or this error tell it."""
    texts = [str(error), *(_end(path) for name in _LOGS for path in sorted(folder.glob(f"ray/session_2*/logs/{name}")))]
    for words in _CAUSES:
        if any(words in text for text in texts):
            return _in_words(_CAUSES[words], folder)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        return f"it ended at once; its limit of address space (ulimit -v) is {limit // 2**20} MB"
    told = [line.strip() for line in str(error).splitlines() if line.strip()]
    return told[0].rstrip(".") if told else type(error).__name__


def _in_words(number: int, folder: Path) -> str:
    words = os.strerror(number)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{folder} ({words})"
    limits = {
        errno.EAGAIN: ("processes", resource.RLIMIT_NPROC, "-u"),
        errno.EMFILE: ("open files", resource.RLIMIT_NOFILE, "-n"),
        errno.ENOMEM: ("address space", resource.RLIMIT_AS, "-v"),
    }
    if number in limits:
        name, kind, option = limits[number]
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            return f"{words}; its limit of {name} (ulimit {option}) is {limit}"
    return words


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
    advice = f"and Ray takes about {needed}"
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and soft != resource.RLIM_INFINITY:  # root has no such limit
        used = _threads_of(os.getuid())
        if soft - used < needed and (hard == resource.RLIM_INFINITY or hard > soft):
            resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
            soft = hard
        if soft != resource.RLIM_INFINITY and soft - used < needed:
            yield f"the limit of processes and threads (ulimit -u) is {soft}, {used} are there, {advice}"
    if (left := cgroup.processes_left()) is not None and left < needed:
        yield f"the container's limit leaves {left} processes and threads, {advice}"


def _threads_of(user: int) -> int:
    found = psutil.process_iter(["uids", "num_threads"])
    return sum(
        process.info["num_threads"] or 0
        for process in found
        if process.info["uids"] and process.info["uids"].real == user
    )


def _files() -> Iterator[str]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        yield f"the limit of open files (ulimit -n) is {soft}, and Ray takes about {_FILES}"


def _disk(folder: Path) -> Iterator[str]:
    if (free := shutil.disk_usage(folder).free) < _DISK:
        yield f"{folder} has {free / 2**20:.0f} MB of room, and Ray's logs take up to {_DISK // 2**20} (TMPDIR)"
    status = os.statvfs(folder)
    if status.f_files and status.f_favail < _INODES:
        yield f"{folder} has room for {status.f_favail} files, and Ray makes about {_INODES} (TMPDIR)"


def _end(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LONGEST_LOG))
            return file.read(_LONGEST_LOG).decode(errors="replace")
    except OSError:
        return ""
