"""One warm process per node that gives every trial a fresh process of its own, with TensorFlow already imported.

`python -m sweeps.worker.forkserver SOCKET` imports TensorFlow and the nets once, touches no device, and then forks a
child for each connection to its Unix socket (`sweeps/worker/forking.py`). The child runs one call and dies with it: no
graph, memory, setting or process passes from trial to trial. What the child has started, even a daemon, is killed
before the child's end is reported. A child lives no longer than its client: it is killed when the client's end of the
connection closes. When the server's own parent ends, so does everything below the server.

On the wire are pickles. The client sends a `sweeps.worker.child.Call`, or an empty message, which the server answers
with an empty one. Pairs of a kind and a content come back: ("pid", int), whatever the call sends through its `send`,
then ("exit", wait status); `sweeps.worker.messages.Failed` where the call could not be started.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import socket
import subprocess
import sys
import tempfile
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from nets.conventions import keras_defaults
from sweeps.errors import DispatchError
from sweeps.machine import environment
from sweeps.process import temporary
from sweeps.process.project import ROOT
from sweeps.worker import descendants, log_tail
from tracking import startup

PRELOAD = ("tensorflow", "keras", "nets", "nets.counting.layers", "sweeps.tasks.benchmark")
_ANSWER_S = 10.0
"""How long a healthy server may take to answer; a loaded machine is slow."""
_LAST_WORDS = 8


class ForkServer:
    """Starts a fork server as a child process and ends it; `address` is what `connect` takes.

    `folder` is the working directory of all calls, where the user's own modules are; None for the current one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        temporary.remove_abandoned()
        descendants.end_abandoned()
        self._folder = temporary.Folder("fork", room=len("/socket"))
        self.address = str(self._folder.path / "socket")
        self.log = self._folder.path / "log.txt"
        self._ready = False
        # Threads started by imports would be of no use: a fork copies only one thread.
        quiet = {"OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
        more = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        paths = [str(ROOT), *(str(Path(path).absolute()) for path in more)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                # -P: otherwise `-m` looks in the current folder before the standard library.
                [sys.executable, "-P", "-m", "sweeps.worker.forkserver", self.address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=os.environ | quiet | {"PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # the driver handles Ctrl-C
            )
        self._first_mark = descendants.first_mark(self._process.pid)

    def wait_ready(self) -> None:
        """Wait for the imports. Raises DispatchError with the end of the server's log where they fail."""
        if self._process.stdout is None or self._process.stdout.readline() != b"ready\n":
            self._process.wait()
            raise DispatchError("the fork server could not start:\n" + log_tail.tail(self.log, _LAST_WORDS))
        self._ready = True

    def close(self, *, lost: bool = False) -> None:
        """End the server and all that its calls have started; kill it at once where it is `lost`."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # the server's lifeline
        if lost or not self._ready:
            self._process.kill()  # a server that is still importing has no children and does not listen
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        descendants.end_server(self._first_mark)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.close()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LastingServer:
    """The fork server of this machine, started on first use; `address` replaces one that was lost.

    `folder` is as for `ForkServer`; the current one is used where this user cannot enter it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._server: ForkServer | None = None
        self._ready = False
        self._folder = _usable(folder)

    def move_to(self, folder: Path) -> None:
        """Run the server's calls in another folder; a server that was started elsewhere is ended."""
        before, self._folder = self._folder or Path.cwd(), _usable(folder)
        if (self._folder or Path.cwd()) != before:
            self._close()

    def start(self) -> None:
        """Start the server if there is none; it is ready seconds later."""
        if self._server is None:
            self._server, self._ready = ForkServer(self._folder), False

    def address(self) -> str:
        """Return the address of a healthy fork server, after waiting for it. Raises DispatchError if none starts.

        One that has died, hangs or was stopped is ended, with all its calls, and replaced.
        """
        if self._server is not None and self._ready and not answers(self._server.address):
            self._close(lost=True)
        self.start()
        assert self._server is not None
        if not self._ready:
            self._server.wait_ready()
            self._ready = True
        return self._server.address

    def _close(self, *, lost: bool = False) -> None:
        if self._server is not None:
            self._server.close(lost=lost)
            self._server = None

    def __enter__(self) -> LastingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def _usable(folder: Path | None) -> Path | None:
    """Return the folder if this user can enter it, else None; on other machines it may not exist."""
    return folder if folder is not None and folder.is_dir() and os.access(folder, os.X_OK) else None


def connect(address: str) -> Connection[Any, Any]:
    """Open a connection for one call. Raises DispatchError when no server listens there."""
    try:
        return Client(address, family="AF_UNIX")
    except OSError as error:
        raise DispatchError(f"expected a fork server at {address}. Received: {error}") from error


def answers(address: str) -> bool:
    """Whether a healthy server listens there. A stopped one accepts connections, too, but does not answer."""
    empty = bytes(4)  # a message of length 0
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(_ANSWER_S)
            asking.connect(address)
            asking.sendall(empty)
            return asking.recv(len(empty)) == empty
    except OSError:
        return False


def main(address: str) -> None:
    from sweeps.worker import forking

    for stream in (sys.stdout, sys.stderr):  # they become a trial's log, in UTF-8 whatever the locale
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    keras_defaults.load()
    for name in PRELOAD:
        importlib.import_module(name)
    # This loads the sources of all nets and the facts about this machine for all children. No more can be prepared: the
    # first graph would start a TensorFlow thread, which the children would lack.
    importlib.import_module("nets").check("tiny", {})
    importlib.import_module("sweeps.machine.host").facts()
    environment.warmed_up()
    # A child ends without clean-up, and TensorFlow leaves files for converted functions: they go with us.
    tempfile.tempdir = str(Path(address).parent)
    gc.collect()
    gc.freeze()  # spares the children walking, and so copying, all that was imported
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(1024)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    forking.Server(listener).serve()


if __name__ == "__main__":
    startup.prepare()
    startup.own_modules_last()  # a user's nets are in the current folder
    main(sys.argv[1])
