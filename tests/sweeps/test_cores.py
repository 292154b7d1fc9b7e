from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sweeps import cores


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def _hold(count: int, pipe: Connection, folder: str) -> None:
    import tempfile

    tempfile.tempdir = folder
    with cores.claim(count) as held:
        pipe.send(held)
        pipe.recv()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(len(cores.available()), theirs, str(tmp_path)))
    process.start()
    yield process, ours
    process.kill()
    process.join()
    ours.close()
    theirs.close()


def test_two_claims_get_different_cores() -> None:
    if len(cores.available()) < 2:
        pytest.skip("needs two cores")
    with cores.claim(1) as one, cores.claim(1) as other:
        assert set(one).isdisjoint(other)
        assert set(one) | set(other) <= set(cores.available())


def test_more_cores_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="Received: 10000"), cores.claim(10_000):
        pass


def test_a_killed_holder_gives_its_cores_back(
    holder: tuple[multiprocessing.process.BaseProcess, Connection],
) -> None:
    process, pipe = holder
    assert pipe.poll(30)
    assert pipe.recv() == cores.available()
    os.kill(process.pid or 0, signal.SIGKILL)
    with cores.claim(1) as held:  # waits until the kernel has dropped the locks
        assert len(held) == 1
