from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.machine.cores import claim
from sweeps.process.project import ROOT
from sweeps.tasks.timing.evidence import Watch
from sweeps.worker.isolate import run_trial
from tracking.analysis.doubts import judged, verdict
from tracking.folder.journal import Journal
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Result, Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Classic

BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"


@pytest.fixture
def core() -> Iterator[int]:
    with claim(1) as (held,):
        yield held


@pytest.fixture
def busy_loop(core: int) -> Iterator[None]:
    """A process that has nothing else to do than to keep the trial's core busy."""
    with looping(core):
        yield


@contextlib.contextmanager
def looping(core: int) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", BUSY, str(core)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def watched(core: int) -> dict[str, float]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        watch = Watch()
        watch.start()
        spin(1.0)
        return watch.stop()
    finally:
        os.sched_setaffinity(0, before)


def test_a_busy_loop_on_the_same_core_is_seen(core: int, busy_loop: None) -> None:  # noqa: ARG001
    evidence = watched(core)
    assert evidence["others_share"] > 0.1
    assert evidence["others_cores"] > 0.1


def journal(folder: Path, *arguments: str) -> list[Result]:
    """The results of a sweep of forward passes through the command line, without Ray."""
    command = [sys.executable, str(ROOT / "sweeps" / "run.py"), "-m", "model=tiny", "batch=1", "passes=[forward]"]
    quick = ["cluster=inline", "tracking=none", "calibrate=false", f"hydra.sweep.dir={folder}"]
    subprocess.run([*command, *quick, *arguments], check=True, capture_output=True, cwd=folder.parent)
    return Journal(folder).read()


def test_nothing_beside_a_busy_loop_is_good(tmp_path: Path) -> None:
    """However short: a classic protocol is over after 20 ms here, 6 steps of it after 2 ms."""
    with looping(max(os.sched_getaffinity(0))):
        results = journal(tmp_path / "all", "device.cpus=null,1", "protocol=adaptive,classic", "repeats=2")
        hurried = journal(tmp_path / "short", "device.cpus=null,1", "protocol=classic", "protocol.steps=6")
    assert len(results) + len(hurried) == 10
    for result in (*results, *hurried):
        assert re.match("contention: others|neighbours: |too short to tell: ", verdict(result)), verdict(result)


def assert_clean_when_idle(core: int, look: Callable[[], object]) -> None:
    """What `look` finds is nothing, at least once of three times that the core was idle before and after.

    Others' load on this machine is not what is tested: a look that met some counts only if it found nothing.
    """
    found = []
    for _ in range(9):
        if _idle(core):
            if not (seen := look()):
                return
            if _idle(core):
                found.append(seen)
        assert len(found) < 3, found
    pytest.skip(f"another process is busy on core {core}; an idle machine runs this")


def _idle(core: int) -> bool:
    busy = _busy_ticks(core)
    time.sleep(0.5)
    return _busy_ticks(core) - busy <= 2


def _busy_ticks(core: int) -> int:
    (line,) = (line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    ticks = [int(tick) for tick in line.split()[1:]]
    return sum(ticks) - ticks[3] - ticks[4]


def test_an_own_core_is_ones_own(core: int) -> None:
    def others() -> dict[str, float]:
        evidence = watched(core)
        assert evidence["wall_s"] >= 1.0
        return evidence if evidence["others_share"] > 0.1 else {}

    assert_clean_when_idle(core, others)


def contention(server: str, core: int, folder: Path) -> list[str]:
    """The doubts about a trial on that core that are about its neighbours there."""
    trial = Trial(model="tiny", batch=64, passes=("forward",), device=Device(cpus=1))
    long = replace(trial, protocol=Classic(burn_in=50, steps=6000))
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    result = judged(run_trial(long, sweep_id="s", server=server, cores=(core,), env=cpu, folder=TrialFolder(folder)))
    assert result.ok, result.error
    return [doubt for doubt in result.quality if doubt.startswith("contention: others had")]


def test_a_trial_beside_a_busy_loop_is_doubted(server: str, core: int, busy_loop: None, tmp_path: Path) -> None:  # noqa: ARG001
    assert contention(server, core, tmp_path)


def test_a_trial_alone_on_its_core_is_not(server: str, core: int, tmp_path: Path) -> None:
    assert_clean_when_idle(core, lambda: contention(server, core, tmp_path))
