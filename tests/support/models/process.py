"""Nets whose code affects its own process or others."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras

import nets


def stopping_its_server(then: str = "hang", once: str | None = None) -> keras.Model:
    """A net that stops the fork server and then does something else; with `once`, only while that file is missing."""
    if once is not None and Path(once).exists():
        return nets.build("tiny")
    if once is not None:
        Path(once).touch()
    os.kill(os.getppid(), signal.SIGSTOP)
    if then == "hang":
        time.sleep(3600)
    elif then == "grow":
        held = bytearray(os.urandom(2**20)) * 3000
        time.sleep(3600)
        del held
    elif then == "exit":
        os._exit(3)
    return nets.build("tiny")


def stopping_itself(text: str = "") -> keras.Model:
    """A net that stops its process, in the middle of a message where `text` is not empty."""
    if text:
        (connection,) = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if "socket:" in str(_target(fd))]
        os.write(connection, struct.pack("!i", 1000) + text.encode())
    os.kill(os.getpid(), signal.SIGSTOP)
    return nets.build("tiny")


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except OSError:  # the listing's own descriptor
        return link


def leaving(code: Any = None) -> keras.Model:
    sys.exit(code)


def dying_of(number: int) -> keras.Model:
    os.kill(os.getpid(), number)
    return nets.build("tiny")


class _UnreadableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no message")


class _NoException(BaseException):
    pass


def raising(what: str) -> keras.Model:
    kinds: dict[str, type[BaseException]] = {"interrupt": KeyboardInterrupt, "base": _NoException}
    raise kinds.get(what, _UnreadableError)(what)


def returning_twice() -> keras.Model:
    """A net whose code forks and lets the child continue."""
    os.fork()
    return nets.build("tiny")


def starting_a_daemon(pid_file: str) -> keras.Model:
    Path(pid_file).write_text(str(subprocess.Popen(["setsid", "env", "-i", "sleep", "3600"]).pid))
    return nets.build("tiny")


def writing(text: str, times: int) -> keras.Model:
    """A net that writes to its log, and ends."""
    os.write(1, (text * times).encode())
    os._exit(7)


def replacing_its_log(kind: str) -> keras.Model:
    """A net that replaces its log by something else, and ends."""
    log = Path(os.environ["SWEEPS_TRIAL_FOLDER"]) / "log.txt"
    log.unlink()
    if kind == "fifo":
        os.mkfifo(log)
    elif kind == "folder":
        log.mkdir()
    elif kind == "link":
        log.symlink_to("/etc/passwd")
    os._exit(7)
