"""A private Ray: nobody else gets in, it leaves nothing behind, and trials survive its death."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sweeps.clusters import start
from sweeps.clusters.local import LocalFleet, ray_on_this_machine
from sweeps.dispatch import loop
from sweeps.errors import DispatchError, UsageError
from sweeps.machine.node import Node
from sweeps.process import guardian, temporary
from sweeps.worker.forkserver import LastingServer
from tracking.record import Result, Trial
from tracking.schema.protocols import Classic

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
NODE = Node(cpus=1)
TRIAL = Trial(model="tiny", batch=1, passes=("forward",), protocol=Classic(burn_in=1, steps=2))
LISTENS = "0A"


@pytest.fixture(scope="module")
def server() -> Iterator[Callable[[], str]]:
    with LastingServer() as server:
        yield server.address


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder to which Ray would write a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_private_ray_is_reached_by_nobody_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # somebody else's cluster
    monkeypatch.setenv("RAY_AUTH_TOKEN", "somebody-elses")
    monkeypatch.setenv("RAY_TMPDIR", str(home / "elsewhere"))
    before, others = dict(os.environ), set(temporary.base().glob("ray-*"))
    with ray_on_this_machine(NODE):
        import ray

        assert {name: value for name, value in os.environ.items() if name in before} == before
        assert not [name for name in os.environ.keys() - before.keys() if name.startswith("RAY_AUTH")]
        assert ray.cluster_resources()["CPU"] == 1
        (folder,) = set(temporary.base().glob("ray-*")) - others
        assert (folder / "ray" / ray.get_runtime_context().get_session_name()).is_dir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not listening_elsewhere({os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))})
        if os.geteuid() == 0:
            refused_to_others(ray.get_runtime_context().gcs_address, folder)
    assert not folder.exists()
    assert list(home.iterdir()) == []
    assert not Path(tempfile.gettempdir(), "ray").exists()


def listening_elsewhere(pids: set[int]) -> list[str]:
    """The addresses that these processes listen on, except loopback ones, as the kernel writes them."""
    mine = {str(file.readlink()) for pid in pids for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    open_to = [words[1].partition(":")[0] for words in lines if words[3] == LISTENS and f"socket:[{words[9]}]" in mine]
    assert len(open_to) > 5
    loopback = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
    return [address for address in open_to if address not in loopback]


def refused_to_others(address: str, folder: Path) -> None:
    """Send Ray's head a request without a token, or with that of another Ray."""
    asking = (
        "import os, sys\n"
        "from ray._raylet import GcsClient\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "print(GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None))\n"
    )
    for mode in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"}):
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **mode}
        done = subprocess.run(
            [sys.executable, "-c", asking, address], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0, done.stdout
        assert "nauthenticated" in done.stderr or "uthentication" in done.stderr, done.stderr
    looked = subprocess.run(["ls", str(folder)], user=NOBODY, capture_output=True, text=True, check=False)
    assert "Permission denied" in looked.stderr


@pytest.mark.parametrize(
    ("name", "number", "how"),
    [("gcs_server", signal.SIGKILL, "was killed by signal 9"), ("raylet", signal.SIGSTOP, "was stopped by signal 19")],
)
def test_trials_go_on_when_ray_is_lost(
    server: Callable[[], str], tmp_path: Path, name: str, number: int, how: str
) -> None:
    warned: list[str] = []
    with ray_on_this_machine(NODE) as ray:
        fleet = LocalFleet(ray, NODE, server)
        context = loop.Context(sweep_id="s", folder=tmp_path, server=server, node=NODE, fleet=fleet, warn=warned.append)
        results = []
        trials = [replace(TRIAL, repeat=index) for index in range(3)]
        for result in loop.on_ray(trials, context):
            if not results:
                (daemon,) = [child for child in psutil.Process().children() if child.name() == name]
                daemon.send_signal(number)
                os.waitid(os.P_PID, daemon.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            results.append(result)
    assert [result.status for result in results] == ["ok"] * 3
    assert len({result.trial_id for result in results}) == 3
    (warning,) = warned
    assert warning == f"Ray was lost: its {name} {how}; restarting it"


def test_a_trial_that_always_kills_ray_is_crashed_and_a_ray_that_always_dies_ends_the_sweep(
    server: Callable[[], str], tmp_path: Path
) -> None:
    killers = [replace(TRIAL, target="tests.support.models.failing.killing_ray", repeat=index) for index in range(3)]
    results: list[Result] = []
    with ray_on_this_machine(NODE) as ray:
        fleet = LocalFleet(ray, NODE, server)
        context = loop.Context(sweep_id="s", folder=tmp_path, server=server, node=NODE, fleet=fleet)
        with pytest.raises(DispatchError, match=r"Ray was lost: its raylet .* resume=latest runs the rest"):
            results.extend(loop.on_ray([TRIAL, *killers], context))
    assert [(result.status, result.trial.repeat) for result in results] == [("ok", 0), ("crashed", 0)]
    assert results[1].error is not None
    assert re.fullmatch(r"Ray was lost: its raylet .* \(tries: 2\)", results[1].error.message)


def test_a_stopped_ray_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_END_S", 1.0)
    with ray_on_this_machine(NODE):
        (stopped,) = [child for child in psutil.Process().children() if child.name() == "gcs_server"]
        stopped.suspend()
    assert not stopped.is_running() or stopped.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
def test_the_next_sweep_ends_what_a_killed_driver_and_guardian_leave() -> None:
    code = (
        "import os, signal, psutil\n"
        "from sweeps.machine.node import Node\n"
        "from sweeps.clusters.local import PrivateRay\n"
        "ray = PrivateRay(Node(cpus=1))\n"
        "for process in psutil.Process().children():\n"
        "    if 'guardian.py' in ' '.join(process.cmdline()): process.kill()\n"
        "for process in psutil.Process().children(recursive=True):\n"
        "    if process.name() == 'ray::DashboardAgent': process.suspend()\n"
        "print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = set(temporary.base().iterdir())
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) > 3, done.stderr
    left = set(temporary.base().iterdir()) - before
    assert [path.name[:4] for path in left] == ["ray-"]
    temporary.remove_abandoned()
    assert set(temporary.base().iterdir()) <= before
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_ray_that_dies_while_it_starts_is_one_error_and_leaves_nothing() -> None:
    before, stop = set(temporary.base().iterdir()), threading.Event()
    others = set(psutil.Process().children())

    def kill() -> None:
        while not stop.is_set():
            for process in set(psutil.Process().children()) - others:
                with contextlib.suppress(psutil.Error):
                    if process.name() == "raylet":
                        process.kill()
                        return

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UsageError) as refused, ray_on_this_machine(NODE):
        pass
    stop.set()
    killer.join()
    (problem,) = refused.value.problems
    assert problem.startswith("cluster=local: expected Ray to start on this machine. Received: ")
    assert problem.endswith("cluster=inline runs the trials one after another without Ray.")
    assert "its raylet was killed by signal 9" in problem
    assert set(temporary.base().iterdir()) <= before
    started = set(psutil.Process().children(recursive=True)) - others
    assert [process for process in started if process.status() != psutil.STATUS_ZOMBIE] == []


def test_only_what_writes_into_a_folder_is_ended_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "log").touch()
    with (folder / "log").open() as log:
        reader = subprocess.Popen(["sleep", "100"], stdin=log)
    with (folder / "log").open("a") as log:
        writer = subprocess.Popen(["setsid", "sleep", "100"], stdout=log)
    guardian.end(folder)
    assert writer.wait(10) == -9
    assert not folder.exists()
    assert reader.poll() is None
    reader.kill()
    reader.wait()


def test_rays_own_words_stay_off_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from ray._private import worker

    heard, print_words, before = threading.Event(), worker.print_to_stdstream, worker._worker_logs_enabled

    def listen(data: dict[str, object], ignore_prefix: bool) -> None:
        print_words(data, ignore_prefix)
        heard.set()

    monkeypatch.setattr(worker, "print_to_stdstream", listen)
    with ray_on_this_machine(NODE):
        import ray

        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(ray.remote(_die).options(max_retries=0).remote())
        assert heard.wait(60)
    assert "(raylet)" not in "".join(capfd.readouterr())
    assert worker._worker_logs_enabled == before


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
