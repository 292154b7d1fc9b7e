from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sweeps.machine.core_time import fine_counter, machine_counter, ticks

STAT = """cpu  1100 0 0 7000 0 0 0 30 0 0
cpu0 100 20 30 3500 10 5 15 7 0 0
cpu1 900 0 30 3500 0 0 0 23 0 0
intr 1 2 3
"""
SCHEDSTAT = """version 15
timestamp 4294937296
cpu0 0 0 0 0 0 0 1700000000 500 12
domain0 3 0 0 0
cpu1 0 0 0 0 0 0 9300000000 700 34
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text(STAT)
    return tmp_path / "proc"


def usage(groups: Path, text: str, name: str = "cpuacct") -> Path:
    (groups / name).mkdir(parents=True)
    (groups / name / "cpuacct.usage_percpu").write_text(text)
    return groups


def test_ticks_count_processes_and_interrupts_but_neither_idleness_nor_the_hypervisor(proc: Path) -> None:
    cores = ticks(proc)
    assert [cores[0].busy_s, cores[1].busy_s] == pytest.approx([1.7, 9.3])
    assert [cores[0].steal_s, cores[1].steal_s] == pytest.approx([0.07, 0.23])


def test_the_scheduler_counts_nanoseconds(proc: Path, tmp_path: Path) -> None:
    (proc / "schedstat").write_text(SCHEDSTAT)
    counter = fine_counter(proc, tmp_path)
    assert counter is not None
    assert counter() == {0: 1.7, 1: 9.3}


@pytest.mark.parametrize("name", ["cpuacct", "cpu,cpuacct"])
def test_the_root_control_group_counts_nanoseconds(proc: Path, tmp_path: Path, name: str) -> None:
    counter = fine_counter(proc, usage(tmp_path, "1650000000 9250000000 \n", name))
    assert counter is not None
    assert counter() == {0: 1.65, 1: 9.25}


def test_a_containers_own_group_shows_nothing_of_others(proc: Path, tmp_path: Path) -> None:
    assert fine_counter(proc, usage(tmp_path, "200000000 5000000000 \n")) is None


def test_without_either_there_are_only_ticks(proc: Path, tmp_path: Path) -> None:
    assert fine_counter(proc, tmp_path) is None


def test_this_machines_counters_agree() -> None:
    counter = machine_counter()
    if counter is None:
        pytest.skip("this kernel counts ticks only; one with CONFIG_SCHEDSTATS or cpuacct runs this")
    allowed = os.sched_getaffinity(0)
    core = min(allowed)
    before, by_ticks = counter()[core], ticks()[core].busy_s
    os.sched_setaffinity(0, {core})
    end = time.process_time() + 1.0
    while time.process_time() < end:
        pass
    os.sched_setaffinity(0, allowed)
    time.sleep(0.001)  # off the core, so that the scheduler counts what has run
    assert counter()[core] - before > 0.9
    assert ticks()[core].busy_s - by_ticks > 0.8
