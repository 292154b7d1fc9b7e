"""The real dispatch on a Ray without processes: its work per result does not grow with nodes or trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scale.fake_ray import FakeRay
from sweeps.dispatch import loop
from sweeps.dispatch.calibration import Calibration
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.machine.node import Node
from sweeps.plan.checks import problems
from sweeps.plan.preflight import Preflight
from sweeps.plan.stopping import SKIPPED, Ceiling
from sweeps.screen.terminal import Terminal
from sweeps.worker.on_node import Place
from tests.sweeps.dispatch.dispatched import context_of, ended
from tracking.record import Failure, Result, Sweep, Trial
from tracking.schema.device import Device

DEVICES = [Device(cpus=1), Device(cpus=2), Device(cpus=1, threads=1), Device(name="gpu", kind="gpu", cpus=1, gpus=1)]


def nodes_of(count: int) -> list[Node]:
    """Nodes of two kinds."""
    return [Node(cpus=8, gpus=index % 2, name=f"n{index}", node_id=f"n{index}") for index in range(count)]


def grid(count: int) -> list[Trial]:
    return [Trial(model="tiny", batch=1 + index // 4, device=DEVICES[index % 4]) for index in range(count)]


def out_above(batch: int) -> FakeRay:
    """A Ray on which trials of larger batches run out of memory."""

    def answer(trial: Trial, place: Place) -> Result:
        error = Failure(kind="ResourceExhaustedError", message="OOM")
        return ended(trial, place) if trial.batch <= batch else replace(ended(trial, place), status="oom", error=error)

    return FakeRay(answer)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count calls of the functions that used to run for every node or every waiting trial."""
    calls: Counter[str] = Counter()
    watched = [
        (Slot, "has_room"),
        (Node, "misses"),
        (Ceiling, "limit"),
        (Trial, "to_json"),
        (Device, "__repr__"),
    ]
    with monkeypatch.context() as patch:
        for kind, name in watched:
            patch.setattr(kind, name, _counting(getattr(kind, name), name, calls))
        yield calls


def _counting(whole: Callable[..., object], name: str, calls: Counter[str]) -> Callable[..., object]:
    def call(*args: object, **named: object) -> object:
        calls[name] += 1
        return whole(*args, **named)

    return call


def run(
    nodes: int, trials: list[Trial], ray: FakeRay, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Result, Counter[str]]]:
    """Yield each result with the calls since the one before."""
    fleet = Fleet([Slot(node, lambda: "", local=False) for node in nodes_of(nodes)])
    fleet.inbox, ceiling = ray, Ceiling()
    context = context_of(fleet, folder, calibration=Calibration(), limit=ceiling.limit)
    results = []
    with ray.installed(), counted(monkeypatch) as calls:
        for result in loop.on_ray(trials, context):
            ceiling.note(result)
            results.append((result, Counter(calls)))
            calls.clear()
    return results


def test_a_result_costs_the_same_on_many_nodes_and_with_many_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = []
    for nodes, count in ((6, 400), (60, 4000)):
        results = run(nodes, grid(count), FakeRay(ended), tmp_path, monkeypatch)
        assert sorted(result.trial_id for result, _ in results) == sorted(trial.trial_id for trial in grid(count))
        assert {result.status for result, _ in results} == {"ok"}
        late = [calls for _, calls in results[count // 2 :]]  # nodes are calibrated and full
        most.append({name: max(calls[name] for calls in late) for name in ("has_room", "misses", "limit", "to_json")})
    assert most[0] == most[1]


def test_the_first_results_of_a_calibrated_cluster_cost_nodes_and_not_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = []
    for nodes in (10, 100):
        results = run(nodes, grid(40 * nodes), FakeRay(ended), tmp_path, monkeypatch)
        calls = sum((calls for _, calls in results), Counter())
        each.append({name: calls[name] / nodes for name in ("has_room", "limit")})
        assert calls["misses"] <= 2 * len(DEVICES)  # kinds of nodes times kinds of trials
    assert each[1]["has_room"] <= 1.1 * each[0]["has_room"]
    assert each[1]["limit"] <= 1.1 * each[0]["limit"]


def test_running_out_of_memory_does_not_look_at_all_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (200, 2000):
        trials = [replace(trial, device=DEVICES[0]) for trial in grid(count)]
        trials = [replace(trial, batch=1 + index) for index, trial in enumerate(trials)]
        results = run(2, trials, out_above(count // 2), tmp_path, monkeypatch)
        assert [result.trial.batch for result, _ in results if result.ok] == list(range(1, count // 2 + 1))
        ran_out = [result for result, _ in results if result.error and result.error.kind != SKIPPED]
        assert len(ran_out) == 16  # one on each core, before the first was known
        assert len(results) == count
        assert max(calls["limit"] for _, calls in results[20:]) <= 4


def test_checks_cost_kinds_of_devices_times_kinds_of_nodes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes, trials = nodes_of(50), grid(200)
    lacking = [replace(trial, device=Device(cpus=99)) for trial in trials]
    sweep = Sweep(sweep_id="s", folder="f", command="c", created_at=0, trials=tuple(trials))
    with counted(monkeypatch) as calls:
        assert problems(trials, nodes) == []
        assert len(problems(lacking, nodes)) == 1
        assert Preflight().warnings(trials, nodes) == []
        Terminal().plan(sweep, trials, nodes)
    assert calls["misses"] <= 10 * len(DEVICES)
    assert "25 of 8 cores, 1 GPU: 200 of 200 trials" in capsys.readouterr().out
