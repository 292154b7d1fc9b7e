from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sweeps import dispatch
from sweeps.cores import available
from sweeps.devices import Node
from tracking.record import Classic, Device, Result, Trial

TINY = Trial(model="tiny", batch=1, passes=("forward",), protocol=Classic(burn_in=1, steps=2))
NODE = Node(cpus=len(available()))


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with dispatch.ray_on_this_machine(NODE):
        yield


@pytest.fixture
def context(server: str, tmp_path: Path) -> dispatch.Context:
    return dispatch.Context(sweep_id="s", folder=tmp_path, server=lambda: server, node=NODE)


def trials(count: int, **changes: object) -> list[Trial]:
    return [replace(TINY, repeat=index, **changes) for index in range(count)]  # type: ignore[arg-type]


def comparable(result: Result) -> tuple[object, ...]:
    return result.trial, result.status, result.layers, list(result.passes), {*result.host} - {"cores"}


def test_inline_and_ray_give_the_same_records(context: dispatch.Context) -> None:
    inline = [comparable(result) for result in dispatch.inline(trials(2), context)]
    on_ray = [comparable(result) for result in dispatch.on_ray(trials(2), context)]
    assert on_ray == inline
    assert [status for _, status, *_ in inline] == ["ok", "ok"]


def test_trials_of_all_cores_run_one_at_a_time(context: dispatch.Context) -> None:
    spans = [(r.started_at, r.started_at + r.wall_s) for r in dispatch.on_ray(trials(3), context)]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_trials_of_one_core_run_side_by_side_on_cores_of_their_own(context: dispatch.Context) -> None:
    if NODE.cpus < 2:
        pytest.skip("needs two cores")
    one_core = trials(2, device=Device(cpus=1), protocol=Classic(burn_in=1, steps=4000))
    results = list(dispatch.on_ray(one_core, context))
    spans = [(r.started_at, r.started_at + r.wall_s) for r in results]
    assert max(start for start, _ in spans) < min(end for _, end in spans)
    assert [len(r.host["cores"]) for r in results] == [1, 1]
    assert results[0].host["cores"] != results[1].host["cores"]
    assert [r.host["tf_threads"] for r in results] == [1, 1]


def test_the_next_trial_waits_until_the_consumer_is_done_with_the_last(context: dispatch.Context) -> None:
    handed_out: list[int] = []
    watched = replace(context, started=lambda trial: handed_out.append(trial.repeat))
    for done, _ in enumerate(dispatch.on_ray(trials(3), watched)):
        assert handed_out == list(range(done + 1))


def test_the_driver_leaves_the_cores_of_running_trials_alone(context: dispatch.Context) -> None:
    if NODE.cpus < 2:
        pytest.skip("needs two cores")
    quick, slow = trials(1, device=Device(cpus=1)), trials(1, device=Device(cpus=1), target="tests.models.hanging")
    both = [*quick, replace(slow[0], repeat=1, timeout_s=8.0)]
    allowed = [sorted(os.sched_getaffinity(0)) for _ in dispatch.on_ray(both, context)]
    assert len(allowed[0]) == 1  # the slow one is still on the other core
    assert allowed[1] == sorted(available())


def test_a_trial_whose_worker_dies_is_tried_again_and_then_recorded(context: dispatch.Context) -> None:
    handed_out: list[Trial] = []
    watched = replace(context, started=handed_out.append)
    with _killed_workers("ray::tiny"):
        (result,) = dispatch.on_ray([replace(TINY, target="tests.models.hanging", timeout_s=120.0)], watched)
    assert result.status == "crashed"
    assert result.error is not None
    assert "the worker died 2 times" in result.error.message
    assert len(handed_out) == 2


@contextlib.contextmanager
def _killed_workers(title: str) -> Iterator[None]:
    """Kill every Ray worker that bears this title, as soon as it does, while the body runs."""
    done = threading.Event()

    def hunt() -> None:
        while not done.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if " ".join(process.cmdline()).startswith(title):
                        process.send_signal(signal.SIGKILL)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        done.set()
        hunter.join()
