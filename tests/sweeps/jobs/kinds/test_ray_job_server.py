"""Sweeps as jobs of a real job server: a head of one machine, with dashboard and token authentication."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import select
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.errors import SweepError, UsageError
from sweeps.jobs.kinds import ray_job
from tests.support.ports import free_ports
from tests.support.sweep_command import COMMAND, QUICK, ROOT, journal, plain_environment

BIN = Path(sys.executable).parent


@dataclass
class Head:
    """A head, the home folder of its jobs, and the environment in which a user reaches it."""

    address: str
    home: Path
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="head-", ignore_cleanup_errors=True)))
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        environment = plain_environment() | token | {"HOME": str(home), "COLUMNS": "160"}
        port, client, dashboard = free_ports(3)
        ports = [f"--port={port}", f"--ray-client-server-port={client}", f"--dashboard-port={dashboard}"]
        ports += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={home}", *ports]
        # Jobs take their python from the path.
        path = {"PATH": f"{BIN}{os.pathsep}{environment['PATH']}"}
        with (home / "ray.log").open("w") as log:
            process = psutil.Popen(command, env=environment | path, stdout=log, stderr=log, start_new_session=True)
        stack.callback(_end, process)
        address = f"http://127.0.0.1:{dashboard}"
        deadline = time.monotonic() + 60
        while not _asks_for_a_token(address):
            assert process.poll() is None, (home / "ray.log").read_text()
            assert time.monotonic() < deadline, (home / "ray.log").read_text()
            time.sleep(0.2)
        yield Head(address, home, environment)


def _asks_for_a_token(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/api/jobs/", timeout=5).close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401
    except OSError:
        return False
    raise AssertionError("expected the job server to ask for a token")


def _end(process: psutil.Process) -> None:
    everything = [process, *process.children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(everything, timeout=10)
    for each in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(alive, timeout=10)


def submit(head: Head, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    where = ["cluster=ray_job", f"cluster.address={head.address}", "cluster.follow=true"]
    env = {**head.environment, **environment}
    return subprocess.run(
        [*COMMAND, *arguments, *where], cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False
    )


def test_a_followed_job_ends_as_its_sweep_and_is_resumed(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text(
        "import pathlib, keras, nets\n"
        "def once(path: str) -> keras.Model:\n"
        "    if not pathlib.Path(path).exists():\n"
        "        pathlib.Path(path).touch()\n"
        "        raise ValueError('expected a good day. Received: a bad one')\n"
        "    return nets.build('tiny')\n"
    )
    grid = ["-m", "model=tiny", "batch=1,2", "model._target_=my_nets.once", f"+model.path={tmp_path}/once"]
    done = submit(head, tmp_path, *grid, "order=grid", "device.cpus=2", "calibrate=false", *QUICK)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "expected a good day" in done.stdout
    assert not list(tmp_path.glob("multirun"))
    (folder,) = (head.home / "sweeps").glob("sweep-*")
    assert f"~/sweeps/{folder.name} on the cluster's head" in done.stdout
    assert sorted(line["status"] for line in journal(folder)) == ["error", "ok"]
    assert (head.home / "sweeps" / "mlflow.db").is_file()
    plan = json.loads((folder / "plan.json").read_text())
    assert folder.name == f"sweep-{plan['sweep_id']}"
    assert f"`ray job status {folder.name} --address {head.address}`" in done.stdout
    assert "cluster=ray_job" in plan["command"]
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert plan["facts"]["git_commit"] == commit.stdout.strip()
    again = submit(head, tmp_path, f"resume={plan['sweep_id']}", "rerun=failed", "calibrate=false")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [line["status"] for line in journal(folder)][-1] == "ok"


def test_a_stopped_job_keeps_what_it_has(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text("import time\ndef hanging():\n    time.sleep(3600)\n")
    grid = ["-m", "model=tiny", "model._target_=null,my_nets.hanging", "order=grid", "device.cpus=1"]
    where = ["cluster=ray_job", f"cluster.address={head.address}", f"cluster.folder='{tmp_path}/kept (1)'"]
    command = [*COMMAND, *grid, "calibrate=false", *QUICK, *where]
    env = dict(head.environment)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (name,) = re.findall(r"^Job +(\S+);", done.stdout, re.MULTILINE)
    folder = tmp_path / "kept (1)" / name
    _until(lambda: (folder / "results.jsonl").is_file() and journal(folder))
    stop = [str(BIN / "ray"), "job", "stop", name, "--address", head.address]
    subprocess.run(stop, env=env, capture_output=True, timeout=100, check=True)
    assert (folder / "report.html").is_file()
    assert [line["status"] for line in journal(folder)] == ["ok"]


def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class CutOnce(socketserver.ThreadingTCPServer):
    """A proxy that cuts the first connection on which the server sends certain words, once these are through."""

    daemon_threads = True

    def __init__(self, address: str, words: bytes, then: Callable[[], object]) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._target, self._words, self._then = (host, int(port)), words, then
        self.cuts = 0
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        del client_address
        with socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while readable := select.select([request, server], [], [])[0]:
                for one in readable:
                    data = one.recv(2**16)
                    (server if one is request else request).sendall(data)
                    if one is server and self._words in data and not self.cuts:
                        self.cuts += 1
                        self._then()
                        return
                    if not data:
                        return


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's own way
def test_following_goes_on_after_a_dropped_connection(
    head: Head, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from ray.job_submission import JobSubmissionClient

    token = {"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"}
    direct = JobSubmissionClient(head.address, headers=token)
    go = tmp_path / "go"
    entrypoint = f"echo o''ne; until [ -e {go} ]; do sleep 0.1; done; echo two; exit 3"
    direct.submit_job(entrypoint=entrypoint, submission_id="followed")
    with CutOnce(head.address, b"one\n", go.touch) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        client = JobSubmissionClient(f"http://127.0.0.1:{proxy.server_address[1]}", headers=token)
        capfd.readouterr()
        assert asyncio.run(ray_job._follow(client, "followed", head.address)) == 3
        proxy.shutdown()
    assert proxy.cuts == 1
    printed = capfd.readouterr().out
    assert [line for line in printed.splitlines() if line in ("one", "two")] == ["one", "two"], printed


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's own way
def test_a_followed_job_that_is_no_sweep_says_whether_one_ran(head: Head) -> None:
    from ray.job_submission import JobSubmissionClient

    token = {"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"}
    client = JobSubmissionClient(head.address, headers=token)
    nowhere = {"working_dir": "gcs://_ray_pkg_none.zip"}
    jobs: dict[str, tuple[dict[str, Any], type[SweepError]]] = {
        "no_python": ({"entrypoint": "no-such-python sweeps/run.py"}, UsageError),
        "no_environment": ({"entrypoint": "true", "runtime_env": nowhere}, UsageError),
        "killed": ({"entrypoint": "kill -KILL $$"}, SweepError),
    }
    for name, (job, _) in jobs.items():
        client.submit_job(submission_id=name, **job)
    for name, (_, kind) in jobs.items():
        with pytest.raises(SweepError, match=f"the job {name} ended without its sweep: ") as caught:
            asyncio.run(ray_job._follow(client, name, head.address))
        assert type(caught.value) is kind, name


def test_a_job_server_that_is_gone_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.job_submission import JobSubmissionClient

    monkeypatch.setattr(ray_job, "_AGAIN_S", 0.001)
    (port,) = free_ports(1)
    client = JobSubmissionClient.__new__(JobSubmissionClient)  # making one asks the server
    client._address, client._cookies, client._headers, client._ssl_context = (
        f"http://127.0.0.1:{port}",
        None,
        None,
        True,
    )
    command = re.escape("`ray job logs --follow sweep-1 --address 'http://head (1)'`")
    with pytest.raises(SweepError, match=f"no longer answers .* The job goes on; {command}"):
        asyncio.run(ray_job._follow(client, "sweep-1", "http://head (1)"))


def test_without_the_token_no_job_is_taken(head: Head, tmp_path: Path) -> None:
    done = submit(head, tmp_path, "-m", "model=tiny", "batch=1,2", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "expected its token in RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
