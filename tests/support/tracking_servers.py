"""Real MLflow and PostgreSQL servers on free ports of the loopback interface, ended by their process group."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until it is so; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not ready within {seconds:g} s")
        time.sleep(0.05)


_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The server keeps a folder for jobs in /dev/shm, which a killed one leaves behind.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class MlflowServer:
    """`mlflow server` over a SQLite file in `folder`, which outlives stops and starts, or over the database `store`.

    `bare`: as a user's `mlflow ui` in that folder finds everything, without being told where it is.
    """

    def __init__(self, folder: Path, bare: bool = False, store: str | None = None) -> None:
        self.folder = folder
        self._store = store or f"sqlite:///{folder}/server.db"
        self._bare = bare
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "ui" if self._bare else "server", "--port", str(self.port)]
        command += ["--host", "127.0.0.1", "--workers", "1"]
        if not self._bare:
            command += ["--backend-store-uri", self._store]
            command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | _QUIET,
            )
        wait_until(self._healthy, f"the MLflow server ({self.folder / 'server.log'})", 90)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the server and everything that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, how)
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """Stop it: it accepts connections and answers none."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def _healthy(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the MLflow server ended: {(self.folder / 'server.log').read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Postgres:
    """A PostgreSQL cluster of its own in `folder`, as another user where the tests run as root."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.port = free_port()
        address = f"tester:hush@127.0.0.1:{self.port}/postgres"
        # The address names the driver, as SQLAlchemy 2.1 has another default than 2.0.
        self.uri, self._plain_uri = f"postgresql+psycopg2://{address}", f"postgresql://{address}"
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None

    @staticmethod
    def programs() -> Path | None:
        """The folder of the newest installed version."""
        folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        return max(folders, key=lambda path: int(path.parent.name), default=None)

    def start(self) -> None:
        secret = self.folder / "password"
        secret.write_text("hush")
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        if self._user:
            for path in (secret, data):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        initdb = ["initdb", "-D", str(data), "-U", "tester", f"--pwfile={secret}", "-A", "scram-sha-256", "--no-sync"]
        with (self.folder / "postgres.log").open("ab") as log:
            self._run(initdb, log).wait(120)
            settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
            command = ["postgres", "-D", str(data), "-p", str(self.port)]
            self._process = self._run(command + [word for item in settings for word in ("-c", item)], log)
        wait_until(self._answers, f"PostgreSQL ({self.folder / 'postgres.log'})")

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def _run(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._programs / command[0]), *command[1:]],
            cwd="/",
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
        )

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(self.folder / 'postgres.log').read_text()[-2000:]}")
        import psycopg2  # type: ignore[import-untyped]

        try:
            psycopg2.connect(self._plain_uri).close()
        except psycopg2.OperationalError:
            return False
        return True
