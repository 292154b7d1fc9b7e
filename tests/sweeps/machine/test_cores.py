from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sweeps.machine import cores
from tests.support.machine.cgroups import limited

ROOT = Path(__file__).resolve().parents[3]


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


TWO_SOCKETS = cores.Topology(
    numa={core: core // 4 % 2 for core in range(16)},  # 0-3 and 8-11 on node 0, 4-7 and 12-15 on node 1
    physical={core: core % 8 for core in range(16)},  # 8 is the second thread of 0
)


@pytest.mark.parametrize(
    ("count", "free", "chosen"),
    [
        (2, range(16), (0, 1)),
        (4, range(16), (0, 1, 2, 3)),
        (6, range(16), (0, 1, 2, 3, 8, 9)),
        (12, range(16), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
        (2, [0, 8, 4, 5], (4, 5)),
        (2, [0, 1, 8, 4, 5, 6], (0, 1)),
        (2, [3, 4, 5, 6], (4, 5)),
        (2, [3, 11], (3, 11)),
        (2, [3, 7], (3, 7)),
    ],
)
def test_a_trials_cores_lie_together(count: int, free: Sequence[int], chosen: tuple[int, ...]) -> None:
    assert TWO_SOCKETS.choose(count, free) == chosen


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16])
def test_a_quota_pays_for_the_same_cores_each_time_and_for_others_next_door(count: int) -> None:
    chosen = {cores.paid_for(count, range(16), TWO_SOCKETS, f"pod-{number}") for number in range(100)}
    assert chosen == {cores.paid_for(count, range(16), TWO_SOCKETS, f"pod-{number}") for number in range(100)}
    assert {len(set(held)) for held in chosen} == {count}
    assert len(chosen) == 16 // count
    for held in chosen:
        if count <= 2:
            assert len({TWO_SOCKETS.numa[core] for core in held}) == 1
        if count <= 8:
            assert len({TWO_SOCKETS.physical[core] for core in held}) == count


OFFERED = """
from sweeps.machine import cores
with cores.claim(1) as held:
    print(len(cores.available()), len(held))
"""


@pytest.mark.parametrize(("quota", "count"), [(0.5, 1), (1.5, 1), (64.0, len(os.sched_getaffinity(0)))])
def test_a_real_quota_gives_as_many_cores_as_it_pays_for(quota: float, count: int) -> None:
    with limited(cores=quota) as within:
        command = [*within, sys.executable, "-c", OFFERED]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(count), "1"]


def test_what_the_kernel_says_of_the_machine(tmp_path: Path) -> None:
    for node, listed in ((0, "0-1,4"), (1, "2-3,5")):
        (tmp_path / f"node/node{node}").mkdir(parents=True)
        (tmp_path / f"node/node{node}/cpulist").write_text(f"{listed}\n")
    for core, siblings in ((0, "0,4"), (4, "0,4"), (1, "1")):
        (tmp_path / f"cpu/cpu{core}/topology").mkdir(parents=True)
        (tmp_path / f"cpu/cpu{core}/topology/thread_siblings_list").write_text(f"{siblings}\n")
    found = cores.topology(tmp_path)
    assert found.numa == {0: 0, 1: 0, 4: 0, 2: 1, 3: 1, 5: 1}
    assert found.physical == {0: 0, 4: 0, 1: 1}
    assert cores.topology(tmp_path / "nothing") == cores.Topology()


def test_this_machine_says_something() -> None:
    assert set(cores.available()) <= set(cores.topology().numa) or not cores.topology().numa


def test_an_exclusive_claim_keeps_all_cores_from_others(tmp_path: Path) -> None:
    with cores.claim(1, alone=True) as held:
        assert len(held) == 1
        assert all(cores._try_lock(lock) is None for lock in tmp_path.glob("sweeps-*/cores/[0-9]*"))
        assert len(list(tmp_path.glob("sweeps-*/cores/[0-9]*"))) == len(cores.available())


def test_the_drivers_core_is_left_to_it() -> None:
    if len(cores.available()) < 2:
        pytest.skip("needs two cores")
    with cores.claim(len(cores.available()) - 1, spared=1) as held:
        assert held == cores.available()[:-1]


def test_a_lock_whose_file_is_removed_meanwhile_is_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "0"
    first = cores._try_lock(path)
    assert first is not None
    waiting = threading.Thread(target=lambda: taken.append(cores._lock(path, fcntl.LOCK_EX)))
    taken: list[int] = []
    waiting.start()
    while not blocked(path):
        assert waiting.is_alive()
    path.unlink()  # as whoever tidies temporary folders does
    os.close(first)
    waiting.join()
    assert os.path.samestat(os.fstat(taken[0]), path.stat())
    assert cores._try_lock(path) is None
    os.close(taken[0])


def blocked(path: Path) -> bool:
    """Whether somebody waits for the lock on this file."""
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(line.split()[-3].endswith(f":{path.stat().st_ino}") for line in waiting)


def test_a_lock_that_is_held_looks_new(tmp_path: Path) -> None:
    (tmp_path / "0").touch()
    os.utime(tmp_path / "0", (0, 0))
    lock = cores._try_lock(tmp_path / "0")
    assert lock is not None
    assert (tmp_path / "0").stat().st_mtime > 0
    os.close(lock)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to plant something as another user")
@pytest.mark.parametrize("planted", ["folder", "file", "link", "link inside"])
def test_what_another_user_plants_is_neither_followed_nor_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    place = Path(tempfile.mkdtemp(prefix="c-", dir="/tmp"))
    place.chmod(0o1777)
    precious = tmp_path / "precious"
    precious.write_text("a year's work")
    commands = {
        "folder": "mkdir $0",
        "file": "touch $0",
        "link": "ln -s $1 $0",
        "link inside": "mkdir -m 777 $0 $0/cores; ln -s $1 $0/cores/queue; ln -s $1 $0/cores/0; ln -s $1 $0/cores/1",
    }
    command = ["sh", "-c", commands[planted], str(place / f"sweeps-{os.getuid()}"), str(precious)]
    subprocess.run(command, check=True, user=65534, group=65534)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with cores.claim(1) as held:
        assert len(held) == 1
        (ours,) = [path for path in place.glob(f"sweeps-*/cores/{held[0]}") if path.parent.stat().st_uid == os.getuid()]
        assert cores._try_lock(ours) is None
    assert precious.read_text() == "a year's work"
    shutil.rmtree(place)
