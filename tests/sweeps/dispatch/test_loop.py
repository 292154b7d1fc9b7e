from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sweeps.clusters.local import ray_on_this_machine
from sweeps.dispatch import loop
from sweeps.dispatch.calibration import Calibration
from sweeps.dispatch.fleet import Fleet
from sweeps.errors import DispatchError
from sweeps.machine.cores import available
from sweeps.machine.node import Node
from sweeps.plan.stopping import SKIPPED, Ceiling, Limit
from sweeps.worker import forkserver, limits
from sweeps.worker.forkserver import ForkServer, LastingServer
from tracking.record import Failure, Result, Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Classic

TINY = Trial(model="tiny", batch=1, passes=("forward",), protocol=Classic(burn_in=1, steps=2))
NODE = Node(cpus=len(available()))
Run = Callable[[Sequence[Trial], loop.Context], Iterator[Result]]


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with ray_on_this_machine(replace(NODE, gpus=2)):
        yield


@pytest.fixture
def context(server: str, tmp_path: Path) -> loop.Context:
    return loop.Context(sweep_id="s", folder=tmp_path, server=lambda: server, node=NODE)


def trials(count: int, **changes: object) -> list[Trial]:
    return [replace(TINY, repeat=index, **changes) for index in range(count)]  # type: ignore[arg-type]


def comparable(result: Result) -> tuple[object, ...]:
    return result.trial, result.status, result.layers, list(result.passes), {*result.host} - {"cores"}


def test_inline_and_ray_give_the_same_records(context: loop.Context) -> None:
    inline = [comparable(result) for result in loop.inline(trials(2), context)]
    on_ray = [comparable(result) for result in loop.on_ray(trials(2), context)]
    assert on_ray == inline
    assert [status for _, status, *_ in inline] == ["ok", "ok"]


def test_trials_of_all_cores_run_one_at_a_time(context: loop.Context) -> None:
    spans = [(r.started_at, r.started_at + r.wall_s) for r in loop.on_ray(trials(3), context)]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_trials_of_one_core_run_side_by_side_on_cores_of_their_own(context: loop.Context, tmp_path: Path) -> None:
    if NODE.cpus < 2:
        pytest.skip("needs two cores")
    # Neither builds its net before the other is there.
    place = {"folder": str(tmp_path), "count": 2}
    one_core = trials(
        2, device=Device(cpus=1), target="tests.support.models.healthy.meeting", model_args=place, timeout_s=200.0
    )
    results = list(loop.on_ray(one_core, context))
    assert [r.error for r in results] == [None, None]
    assert [len(r.host["cores"]) for r in results] == [1, 1]
    assert results[0].host["cores"] != results[1].host["cores"]
    assert [r.host["tf_threads"] for r in results] == [1, 1]


def test_the_next_trial_waits_until_the_consumer_is_done_with_the_last(context: loop.Context) -> None:
    handed_out: list[int] = []
    watched = replace(context, started=lambda trial: handed_out.append(trial.repeat))
    for done, _ in enumerate(loop.on_ray(trials(3), watched)):
        assert handed_out == list(range(done + 1))


def test_the_driver_leaves_the_cores_of_running_trials_alone(context: loop.Context, tmp_path: Path) -> None:
    if NODE.cpus < 2:
        pytest.skip("needs two cores")
    quick = replace(TINY, device=Device(cpus=1))
    end = tmp_path / "end"
    slow = replace(
        quick, target="tests.support.models.healthy.waiting_for", model_args={"path": str(end)}, timeout_s=200.0
    )
    allowed = []
    for _ in loop.on_ray([quick, slow], context):
        allowed.append(sorted(os.sched_getaffinity(0)))
        end.touch()
    assert len(allowed[0]) == 1  # the slow one is still on the other core
    assert allowed[1] == sorted(available())


def test_a_trial_whose_worker_dies_is_tried_again_and_then_recorded(context: loop.Context) -> None:
    handed_out: list[Trial] = []
    watched = replace(context, started=handed_out.append)
    with _killed_workers("ray::tiny"):
        (result,) = loop.on_ray(
            [replace(TINY, target="tests.support.models.failing.hanging", timeout_s=250.0)], watched
        )
    assert result.status == "crashed"
    assert result.error is not None
    assert "the worker died (tries: 2)" in result.error.message
    assert "before: this machine: the worker died" in result.error.detail
    assert len(handed_out) == 2


def test_a_killed_fork_server_is_replaced_and_its_trials_are_tried_again(context: loop.Context, tmp_path: Path) -> None:
    retried: list[Result] = []
    fatal = replace(TINY, target="tests.support.models.failing.killing_its_server", timeout_s=250.0)
    once = replace(fatal, model_args={"once": str(tmp_path / "once")})
    with LastingServer() as server:
        first = server.address()
        lasting = replace(context, server=server.address, retrying=retried.append)
        mended, after = loop.on_ray([once, *trials(1)], lasting)
        assert server.address() != first
        (lost,) = loop.inline([fatal], replace(lasting, retries=0))
    assert {mended.status, after.status} == {"ok"}
    assert [result.error.kind for result in retried if result.error] == ["ForkServerLost"]
    assert lost.status == "crashed"
    assert lost.error is not None
    assert lost.error.message == "the fork server was lost (tries: 1)"


def test_a_stopped_fork_server_is_replaced_and_its_trial_is_tried_again(
    context: loop.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "END_S", 0.5)
    monkeypatch.setattr(forkserver, "_ANSWER_S", 0.5)
    arguments = {"then": "finish", "once": str(tmp_path / "once")}
    stopping = replace(TINY, target="tests.support.models.process.stopping_its_server", model_args=arguments)
    with LastingServer() as server:
        first = server.address()
        (mended,) = loop.inline([stopping], replace(context, server=server.address))
        assert server.address() != first
    assert mended.status == "ok", mended.error


@pytest.mark.parametrize("run", [loop.inline, loop.on_ray])
def test_a_trial_that_need_not_run_is_recorded_with_its_reason(context: loop.Context, run: Run) -> None:
    ceiling = Ceiling()
    handed_out: list[int] = []
    watched = replace(context, started=lambda trial: handed_out.append(trial.batch), limit=ceiling.limit)
    greedy = [replace(TINY, batch=batch, target="tests.support.models.failing.greedy") for batch in (4, 2, 8, 16)]
    results = []
    for result in run([*greedy, TINY], watched):
        ceiling.note(result)
        results.append(result)
    assert handed_out == [4, 2, 1]
    assert {result.trial.batch: result.status for result in results} == dict.fromkeys((4, 2, 8, 16), "oom") | {1: "ok"}
    messages = {result.trial.batch: result.error.message for result in results if result.error}
    assert messages[8] == messages[16]
    assert messages[8].startswith("skipped: ran out at batch ")


@pytest.mark.parametrize("run", [loop.inline, loop.on_ray])
def test_a_pass_that_fits_is_measured_and_the_other_is_out_of_memory(context: loop.Context, run: Run) -> None:
    reason = Failure(kind=SKIPPED, message="forward_backward skipped: ran out at batch 1")
    limited = replace(context, limit=lambda _: Limit(("forward",), reason))
    (result,) = run([TINY], limited)
    assert (result.trial, result.status, result.error) == (TINY, "oom", reason)
    assert list(result.passes) == ["forward"]
    assert context.log(TINY).is_file()


def test_a_dispatch_that_no_node_is_left_for_ends_after_a_while(context: loop.Context) -> None:
    fleet, warned = Fleet([]), list[str]()
    fleet.wait_s = 0.3
    with pytest.raises(DispatchError, match=r"no node came within 0\.3 s for 2 trials \(cpu\)"):
        list(loop.on_ray(trials(2), replace(context, fleet=fleet, warn=warned.append)))
    assert warned == ["no node is left for 2 trials (cpu); waiting up to 0.3 s for one"]


def test_running_trials_end_when_nobody_wants_results_any_more(context: loop.Context) -> None:
    import ray

    hanging = replace(TINY, model="unwanted", target="tests.support.models.failing.hanging", device=Device(cpus=1))
    both = [*trials(1, device=Device(cpus=1)), hanging] if NODE.cpus > 1 else trials(1)
    for _ in range(3):  # the hanging one has started by then, or is on its way
        results = loop.on_ray(both, context)
        next(results)
        results.close()
        until = time.monotonic() + 120
        while ray.available_resources().get("CPU") != NODE.cpus:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_each_gpu_goes_to_one_trial_at_a_time(
    context: loop.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed: the trial's task only reports which one it sees, and when."""
    shown_one = _shown(tmp_path, others=min(2, NODE.cpus) - 1)
    with _server_with_shown_gpus(tmp_path, monkeypatch) as server:
        two = replace(context, server=lambda: server, node=replace(NODE, gpus=2))
        results = list(loop.on_ray([replace(shown_one, repeat=index) for index in range(4)], two))
    assert [result.error for result in results] == [None] * 4
    shown = [(str(r.host["gpus"]), float(r.host["begin"]), float(r.host["end"])) for r in results]
    assert {gpus for gpus, _, _ in shown} <= {"0", "1"}
    for one, other in itertools.combinations(shown, 2):
        if one[1] < other[2] and other[1] < one[2]:
            assert one[0] != other[0]
    at_once = max(sum(begin <= moment < end for _, begin, end in shown) for _, moment, _ in shown)
    assert at_once == min(2, NODE.cpus)


def test_without_ray_a_trial_is_shown_gpus_that_the_command_may_use(
    context: loop.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-3,5")
    with _server_with_shown_gpus(tmp_path, monkeypatch) as server:
        here = replace(context, server=lambda: server, node=replace(NODE, gpus=2))
        (one, both) = loop.inline([_shown(tmp_path, gpus=1), _shown(tmp_path, gpus=2)], here)
    assert [one.host["gpus"], both.host["gpus"]] == ["GPU-3", "GPU-3,5"], one.error


def _shown(tmp_path: Path, gpus: int = 1, others: int = 0) -> Trial:
    gpu = Device(name="gpu", kind="gpu", gpus=gpus, cpus=1)
    place = {"folder": str(tmp_path), "others": others}
    return replace(TINY, task="shown_gpus", device=gpu, model_args=place, timeout_s=250.0)


@contextlib.contextmanager
def _server_with_shown_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "sitecustomize.py").write_text(
        _EXTRA_TASK.format(path=Path(__file__).parents[2] / "support" / "shown_gpus.py")
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ForkServer() as server:
        server.wait_ready()
        yield server.address


_EXTRA_TASK = """
import importlib.util, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "sweeps.tasks.shown_gpus":
            return importlib.util.spec_from_file_location(name, "{path}")

sys.meta_path.append(Finder)
"""
"""Registers one more task in a Python that finds this as `sitecustomize`."""


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextlib.contextmanager
def _killed_workers(title: str) -> Iterator[None]:
    """Kill every Ray worker as soon as it gets this title, while the body runs."""
    done = threading.Event()

    def hunt() -> None:
        while not done.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if _title(process).startswith(title):
                        process.send_signal(signal.SIGKILL)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        done.set()
        hunter.join()


class Noted(Calibration):
    """Records when calibrations began and ended."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[float, float]] = []

    def note(self, result: Result, node_id: str) -> str | None:
        self.spans.append((result.started_at, result.started_at + result.wall_s))
        return super().note(result, node_id)


def test_a_calibration_has_its_node_to_itself(context: loop.Context) -> None:
    if NODE.cpus < 2:
        pytest.skip("needs two cores")
    noted = Noted()
    one_core = trials(3, device=Device(cpus=1))
    grid = [*one_core, *(replace(trial, precision="bfloat16") for trial in one_core)]
    results = list(loop.on_ray(grid, replace(context, calibration=noted)))
    spans = sorted([*noted.spans, *((r.started_at, r.started_at + r.wall_s) for r in results)])
    assert len(noted.spans) == 2
    for start, end in noted.spans:
        assert not [other for other in spans if other != (start, end) and other[0] < end and start < other[1]]
