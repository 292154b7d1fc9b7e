"""Addresses in a plan to which `sync` and `resume=` would send, and whether this user's credentials go there."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tracking.test_sync import planned
from tracking.folder.journal import Journal
from tracking.sinks import trust

ROOT = Path(__file__).parents[3]
NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user needs root")


def give_away(folder: Path) -> None:
    """Make the folder and all in it another user's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A server that must receive no request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    return tmp_path


def uri(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def sync(folder: Path, *options: str, answer: str | None = None) -> tuple[int, str]:
    """Return the exit code and standard error; `answer`: what is typed on the terminal, if there is one."""
    command = [sys.executable, str(ROOT / "tracking" / "sync.py"), str(folder), *options]
    if answer is None:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr
    control, terminal = pty.openpty()
    os.write(control, f"{answer}\n".encode())
    code = subprocess.run(command, stdin=terminal, stdout=terminal, stderr=terminal, check=False).returncode
    os.close(terminal)
    text = b""
    while chunk := _read(control):
        text += chunk
    os.close(control)
    return code, text.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the terminal is gone
        return b""


@only_root
def test_a_strangers_plan_says_nothing_about_where_to_send(home: Path, server: socket.socket) -> None:
    folder = home / "sweep"
    planned(folder, {"mlflow": {"uri": uri(server), "experiment": "sweeps"}, "csv": {}}, count=1)
    give_away(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, words = sync(folder)
    assert code == 2
    assert words.startswith("expected the address with --uri or in MLFLOW_TRACKING_URI, or --trust. Received: ")
    assert f"{folder} belongs to the user nobody, and its plan names {uri(server)}" in words
    code, words = sync(folder, answer="n")
    assert code == 2
    assert "Go on? [y/N]" in words
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(BlockingIOError):
        server.accept()
    assert sync(folder, "--uri", f"sqlite:///{home}/mlflow.db") == (0, "")


@pytest.mark.parametrize(
    ("known", "address"),
    [
        ("http://good.example:5000", "http://{server}\\@good.example:5000"),
        ("http://good.example:5000", "http://{server}\\\\@good.example:5000/"),
        ("http://good.example:5000", "http://{server}[@good.example:5000"),
        ("http://good.example:5000", "http://{server}\t@good.example:5000"),
        ("http://good.example:5000", "http://{server}@@good.example:5000"),
        ("postgresql://good.example/mlflow", "postgresql://good.example/mlflow?host={server}"),
        ("postgresql://good.example/mlflow", "postgresql://good.example,evil.example/mlflow"),
    ],
)
def test_an_address_that_others_read_differently_is_not_the_one_that_is_known(
    home: Path, monkeypatch: pytest.MonkeyPatch, known: str, address: str
) -> None:
    r"""To Python `http://A\@B` is on B; what sends to it connects to A."""
    planned(home / "before", {"csv": {}}, count=1)
    shutil.move(home / "before", home / "sweep")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", known)
    plan = Journal(home / "sweep").read_plan()
    words = trust.misgivings(plan, home / "sweep", address.format(server="127.0.0.1:9"))
    assert words.endswith("(which may lead to another host than it seems to), where MLFLOW_TRACKING_TOKEN would go")
    for same in (f"{known}/", known.replace("://", "://user@"), known.upper()):
        assert trust.misgivings(plan, home / "sweep", same) == ""


def test_credentials_do_not_follow_a_plan_that_was_copied(
    home: Path, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(home / "before", {"mlflow": {"uri": uri(server), "experiment": "sweeps"}}, count=1)
    shutil.move(home / "before", home / "sweep")
    code, words = sync(home / "sweep")
    assert code == 2
    assert f"was copied or moved there from {home}/before, and its plan names {uri(server)}" in words
    assert "where MLFLOW_TRACKING_TOKEN would go" in words
    with pytest.raises(BlockingIOError):
        server.accept()
    plan = Journal(home / "sweep").read_plan()
    assert trust.misgivings(plan, home / "sweep", "sqlite:////elsewhere/mlflow.db") == ""
    assert trust.misgivings(replace(plan, folder=str(home / "sweep")), home / "sweep", uri(server)) == ""
    for folder in ("/proc/self/cwd", ".", "sweep", f"{home}/x/../sweep", "/dev/fd/0/sweep"):
        assert trust.misgivings(replace(plan, folder=folder), home / "sweep", uri(server)), folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{uri(server)}/")
    assert trust.misgivings(plan, home / "sweep", uri(server)) == ""
    assert trust.misgivings(plan, home / "sweep", "http://127.0.0.1.example") != ""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    assert trust.misgivings(plan, home / "sweep", uri(server)) == ""
    (home / ".mlflow").mkdir()
    (home / ".mlflow" / "credentials").touch()
    assert "where ~/.mlflow/credentials would go" in trust.misgivings(plan, home / "sweep", uri(server))


@only_root
@pytest.mark.parametrize("name", ["", "plan.json", "results.jsonl", "trials"])
def test_a_folder_is_a_strangers_by_any_of_its_parts(name: str, tmp_path: Path) -> None:
    planned(tmp_path / "sweep", {}, count=1)
    (tmp_path / "sweep" / "trials").mkdir(exist_ok=True)
    assert trust.stranger(tmp_path / "sweep") == ""
    os.chown(tmp_path / "sweep" / name, NOBODY, NOBODY)
    assert trust.stranger(tmp_path / "sweep") == "the user nobody"
    (tmp_path / "link").symlink_to("sweep")
    assert trust.stranger(tmp_path / "link") == "the user nobody"
