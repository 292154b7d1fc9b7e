"""The fork server's loop and what becomes of a trial's processes, with a server that has imported next to nothing."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.worker import descendants, forkserver, messages
from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.limits import resident_mb
from sweeps.worker.wire import Send

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
SERVER = """
import socket, sys
from sweeps.worker import forking
import tests.sweeps.worker.test_forking
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
server = forking.Server(listener)
print("ready", flush=True)
server.serve()
"""


class Bare:
    """A server without TensorFlow."""

    def __init__(self, folder: Path) -> None:
        (folder / "bare").mkdir()
        self.address = str(folder / "bare" / "socket")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, self.address], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.first_mark = descendants.first_mark(self.process.pid)

    def run(self, function: Callable[[Any, Send], None], argument: Any = None, **options: Any) -> dict[str, Any]:
        """The messages of a call by kind, after its end."""
        with self.begin(function, argument, **options) as connection:
            return dict(until_end(connection))

    def begin(self, function: Callable[[Any, Send], None], argument: Any = None, **options: Any) -> Connection:
        connection = connect(self.address)
        name = f"tests.sweeps.worker.test_forking:{function.__name__}"
        connection.send(Call(function=name, argument=argument, **options))
        return connection

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()
        descendants.end_server(self.first_mark)


@pytest.fixture
def bare() -> Iterator[Bare]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        running = Bare(Path(folder))
        yield running
        running.end()


def until_end(connection: Connection) -> Iterator[tuple[str, Any]]:
    while True:
        kind, value = connection.recv()
        yield kind, value
        if kind == "exit":
            return


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def gone(pid: int) -> bool:
    """Whether the process ends within a minute."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=60)
    return not alive(pid)


# What calls do.

DAEMONS = {
    "new session": ["setsid", "sleep", "3600"],
    "another group": ["bash", "-mc", "sleep 3600 & wait"],
    "no environment": ["setsid", "env", "-i", "sleep", "3600"],
    "deaf": ["setsid", "bash", "-c", "trap '' TERM HUP INT QUIT USR1; while :; do sleep 1; done"],
    "busy": ["setsid", "bash", "-c", "while :; do :; done"],
    "stopped": ["setsid", "bash", "-c", "kill -STOP $$"],
    "family": ["setsid", "bash", "-c", "for i in 1 2 3; do (setsid sleep 3600 & setsid sleep 3600) & done; wait"],
    "restless": ["setsid", "bash", "-c", "f() { sleep 0.01; f & exit; }; f & wait"],
}
"""Processes that outlive who started them."""


def leave(command: list[str], send: Send) -> None:
    send("daemon", subprocess.Popen(command).pid)
    time.sleep(0.2)


def leave_a_copy(_: Any, send: Send) -> None:
    """A daemon as in the book, without a program of its own: two forks, a session, no open file."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            os.closerange(0, 1000)
            while True:
                time.sleep(1)
        os._exit(0)
    os.wait()
    send("daemon", int(os.read(reading, 100)))


def leave_and_wait(_: Any, send: Send) -> None:
    leave(DAEMONS["new session"], send)
    time.sleep(3600)


def daemon_of_mb(mb: int, send: Send) -> None:
    program = f"held = bytearray(b'x') * ({mb} * 2**20); print('held', flush=True); import time; time.sleep(3600)"
    command = ["setsid", sys.executable, "-c", program]
    first = subprocess.Popen(["bash", "-c", '"$@" & exit', "", *command], stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == b"held\n"
    send("held", None)
    time.sleep(3600)


def nothing(_: Any, send: Send) -> None:
    send("word", None)


def leaving(code: Any, _: Send) -> None:
    sys.exit(code)


def copied(_: Any, send: Send) -> None:
    """Code that forks, and whose child comes back as if it were the trial."""
    child = os.fork()
    send("who", child != 0)
    send("exit", 0) if child == 0 else os.waitpid(child, 0)


# What becomes of them.


@pytest.mark.parametrize("kind", DAEMONS)
def test_no_daemon_outlives_its_call(bare: Bare, kind: str) -> None:
    replies = bare.run(leave, DAEMONS[kind])
    assert replies["exit"] == 0
    assert not alive(replies["daemon"])
    assert descendants.children(bare.process.pid) == []


def test_a_daemon_without_a_program_of_its_own_ends_too(bare: Bare) -> None:
    assert not alive(bare.run(leave_a_copy)["daemon"])


def test_a_call_leaves_the_daemons_of_others_alone(bare: Bare) -> None:
    with bare.begin(leave_and_wait) as other:
        daemon = [other.recv() for _ in range(2)][1][1]
        for function in (nothing, leave_a_copy):
            bare.run(function)
        assert not alive(bare.run(leave, DAEMONS["no environment"])["daemon"])
        assert alive(daemon)
    assert gone(daemon)


def test_a_killed_call_leaves_nothing(bare: Bare) -> None:
    with bare.begin(leave_and_wait) as connection:
        pid, daemon = (connection.recv()[1] for _ in range(2))
        os.kill(pid, signal.SIGKILL)
        assert list(until_end(connection)) == [("exit", signal.SIGKILL)]
        assert not alive(daemon)


def test_what_the_server_had_before_stays() -> None:
    """As multiprocessing's resource tracker does that a library has started while it was imported."""
    helper = "import subprocess; helper = subprocess.Popen(['sleep', '3600']); "
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SERVER", helper + SERVER)
        keeping = Bare(Path(folder))
        (kept,) = descendants.children(keeping.process.pid)
        assert not alive(keeping.run(leave, DAEMONS["new session"])["daemon"])
        assert alive(kept)
        keeping.end()
        os.kill(kept, signal.SIGKILL)


@pytest.mark.parametrize("how", ["driver gone", "server killed", "both killed"])
def test_no_daemon_outlives_the_server(bare: Bare, how: str) -> None:
    with bare.begin(leave_and_wait) as connection:
        pid, daemon = (connection.recv()[1] for _ in range(2))
        if how != "driver gone":
            bare.process.kill()
            bare.process.wait()
            assert gone(pid)
            assert alive(daemon)
        if how == "server killed":
            descendants.end_server(bare.first_mark)
        elif how == "both killed":
            descendants.end_abandoned()  # as the next sweep does
        else:
            bare.end()
        assert not alive(daemon)
        assert not alive(pid)


def test_what_live_servers_run_is_not_abandoned(bare: Bare) -> None:
    with bare.begin(leave_and_wait) as connection:
        pid, daemon = (connection.recv()[1] for _ in range(2))
        descendants.end_abandoned()
        assert alive(pid)
        assert alive(daemon)


def test_the_memory_of_daemons_counts(bare: Bare) -> None:
    with bare.begin(daemon_of_mb, 300) as connection:
        pid = connection.recv()[1]
        before = resident_mb(pid)
        assert connection.recv() == ("held", None)
        assert resident_mb(pid) > before + 250


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (3, 3), (259, 3), (-1, 255), ("text", 1), (True, 1)])
def test_an_exit_has_the_code_that_python_gives_it(bare: Bare, code: Any, status: int) -> None:
    assert os.waitstatus_to_exitcode(bare.run(leaving, code)["exit"]) == status


def test_only_the_calls_own_process_speaks(bare: Bare, tmp_path: Path) -> None:
    with bare.begin(copied, log=str(tmp_path / "log.txt")) as connection:
        assert [message for message in until_end(connection) if message[0] != "pid"] == [("who", True), ("exit", 0)]
    assert "is a copy of the trial's" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("kind", ["missing folder", "folder", "link", "fifo"])
def test_a_log_that_cannot_be_written_is_reported(bare: Bare, tmp_path: Path, kind: str) -> None:
    log = tmp_path / "log"
    if kind == "folder":
        log.mkdir()
    elif kind == "link":
        log.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(log)
    else:
        log = tmp_path / "nowhere" / "log"
    failed = messages.received("failed", bare.run(nothing, log=str(log))["failed"])
    assert isinstance(failed, messages.Failed)
    assert (failed.status, failed.failure.kind) == ("crashed", "NotStarted")
    assert str(log) in failed.failure.message
    assert not (tmp_path / "elsewhere").exists()


def test_a_call_that_cannot_be_read_is_that_calls_failure(bare: Bare) -> None:
    garbage = [b"no pickle", pickle.dumps(3), b"cno.such.module\nname\n.", b"(" * 1000]
    for message in garbage:
        with connect(bare.address) as connection:
            connection.send_bytes(message)
            replies = dict(until_end(connection))
        assert replies["failed"]["failure"]["kind"] == "NotStarted"
        assert replies["exit"] != 0
    assert bare.run(nothing)["exit"] == 0


def test_a_client_that_falls_silent_holds_nobody_up(bare: Bare) -> None:
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as hung_up:
        for client in (silent, hung_up):
            client.connect(bare.address)
        hung_up.sendall(b"\0\0")
        hung_up.close()
        assert bare.run(nothing)["exit"] == 0
        assert forkserver.answers(bare.address)


def test_a_server_without_descriptors_recovers(bare: Bare) -> None:
    before = resource.prlimit(bare.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(bare.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(bare.address)
        resource.prlimit(bare.process.pid, resource.RLIMIT_NOFILE, before)
        assert bare.run(nothing)["exit"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run a server as a user whose processes are limited")
def test_a_fork_that_is_refused_is_that_calls_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = (
        "import os, resource; os.setgid(65534); os.setuid(65534); resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))"
    )
    monkeypatch.setitem(globals(), "SERVER", SERVER.replace("server = ", f"{limited}\nserver = "))
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        refusing = Bare(Path(folder))
        for _ in range(2):
            failed = refusing.run(nothing)["failed"]
            assert failed["status"] == "crashed"
            assert "Resource temporarily unavailable" in failed["failure"]["message"]
        refusing.end()


def test_a_stopped_server_does_not_answer(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    assert forkserver.answers(bare.address)
    monkeypatch.setattr(forkserver, "_ANSWER_S", 0.1)
    bare.process.send_signal(signal.SIGSTOP)
    assert not forkserver.answers(bare.address)
    bare.process.send_signal(signal.SIGCONT)
