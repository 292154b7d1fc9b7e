"""One warm process a node that gives every trial a fresh process of its own, with TensorFlow already imported.

`python -m sweeps.forkserver SOCKET` imports TensorFlow and the nets once, touches no device, and then forks a child
for each connection to its Unix socket. The child runs one call and dies with it: no graph, no memory and no setting
passes from trial to trial. A child lives no longer than its client: when the client's end of the connection closes, the
child's process group is killed; when the server's own parent goes, everything goes.

On the wire: pickled (kind, value) pairs. To the server: a `Call`. Back: ("pid", int), whatever the call sends through
its `send`, then ("exit", wait status).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, NoReturn

from nets import keras_defaults
from sweeps import environment, temporary
from sweeps.errors import DispatchError

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = ("tensorflow", "keras", "nets", "nets.layers", "sweeps.tasks.benchmark")
_PR_SET_PDEATHSIG = 1
Send = Callable[[str, Any], None]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call in a fresh process: `function` is `package.module:name` and gets `argument` and a `send`."""

    function: str
    argument: Any
    cores: tuple[int, ...] = ()
    """Cores the process and all its threads are bound to; none: those of the server."""
    env: Mapping[str, str] = field(default_factory=dict)
    log: str = os.devnull
    """File that takes the process's standard output and error."""


class ForkServer:
    """Starts a fork server as a child process and ends it; `address` is what `connect` takes."""

    def __init__(self) -> None:
        temporary.remove_abandoned()
        self._folder = temporary.Folder("fork", room=len("/socket"))
        self.address = str(self._folder.path / "socket")
        self.log = self._folder.path / "log.txt"
        self._ready = False
        # Importing threads are pointless, and fork copies only one of them.
        quiet = {"OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
        # A user's own nets lie in the current folder.
        paths = [str(ROOT), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sweeps.forkserver", self.address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | quiet | {"PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )

    def wait_ready(self) -> None:
        """Block until the imports are done. Raises DispatchError with the server's last words."""
        if self._process.stdout is None or self._process.stdout.readline() != b"ready\n":
            self._process.wait()
            words = self.log.read_text(errors="replace").strip().splitlines()[-8:]
            raise DispatchError("the fork server could not start:\n" + "\n".join(words))
        self._ready = True

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()  # the server's lifeline
        if not self._ready:
            self._process.kill()  # still importing, it has no children and hears nothing
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.close()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LastingServer:
    """The fork server of this machine, once somebody wants it; `address` starts another one when it was lost."""

    def __init__(self) -> None:
        self._server: ForkServer | None = None
        self._ready = False

    def start(self) -> None:
        """Start the server unless it has been started; it is ready seconds later."""
        if self._server is None:
            self._server, self._ready = ForkServer(), False

    def address(self) -> str:
        """Where a fork server listens now, after waiting for it. Raises DispatchError when none can be started."""
        if self._server is not None and self._ready:
            try:
                connect(self._server.address).close()
            except DispatchError:
                self._close()
        self.start()
        assert self._server is not None
        if not self._ready:
            self._server.wait_ready()
            self._ready = True
        return self._server.address

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> LastingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def connect(address: str) -> Connection[Any, Any]:
    """Open a connection for one call. Raises DispatchError when no server listens there."""
    try:
        return Client(address, family="AF_UNIX")
    except OSError as error:
        raise DispatchError(f"expected a fork server at {address}. Received: {error}") from error


def main(address: str) -> None:
    keras_defaults.load()
    for name in PRELOAD:
        importlib.import_module(name)
    # The sources of all nets and the facts about this machine, found once for all children. More cannot be warmed: the
    # first graph starts a thread of TensorFlow's, which would be missing in the children.
    importlib.import_module("nets").check("tiny", {})
    importlib.import_module("sweeps.host").facts()
    environment.warmed_up()
    # A child ends without clean-up, and TensorFlow leaves a file for every function it converts: here they go with us.
    tempfile.tempdir = str(Path(address).parent)
    gc.collect()
    gc.freeze()  # the children's collector need not walk, and so copy, what was imported
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(1024)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _serve(listener)


def _serve(listener: socket.socket) -> None:
    children: dict[int, Connection[Any, Any]] = {}
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == 0:
                    for pid in children:
                        _kill_group(pid)
                    shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)  # its owner may be dead
                    return
                if key.fileobj == wake_read:
                    os.read(wake_read, 4096)
                    for pid, status in _reaped():
                        connection = children.pop(pid)
                        if connection in selector.get_map():
                            selector.unregister(connection)
                        with contextlib.suppress(OSError):
                            connection.send(("exit", status))
                        connection.close()
                elif key.fileobj is listener:
                    connection = Connection(listener.accept()[0].detach())
                    try:
                        call = connection.recv()
                    except (EOFError, OSError):
                        connection.close()
                        continue
                    pid = os.fork()
                    if pid == 0:
                        selector.close()
                        listener.close()
                        for other in children.values():
                            other.close()
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        _child(call, connection)
                    children[pid] = connection
                    selector.register(connection, selectors.EVENT_READ, pid)
                elif key.data in children:  # a client never speaks again: its end has closed, and its trial with it
                    selector.unregister(key.fileobj)
                    _kill_group(key.data)


def _reaped() -> Iterator[tuple[int, int]]:
    """Children that have ended, each with its wait status. What a child left running ends here too."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            _kill_group(ended.si_pid)  # before the wait, while the process id cannot be anybody else's
            yield os.waitpid(ended.si_pid, 0)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the group exists once the child has called setsid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _child(call: Call, connection: Connection[Any, Any]) -> NoReturn:
    status = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(call.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        if call.cores:
            os.sched_setaffinity(0, call.cores)
        os.environ.update(call.env)
        connection.send(("pid", os.getpid()))
        module, _, name = call.function.partition(":")
        getattr(importlib.import_module(module), name)(
            call.argument, lambda kind, value: connection.send((kind, value))
        )
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):  # a log on a full disk is no reason to call the trial a failure
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
