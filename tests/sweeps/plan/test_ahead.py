"""Nets that are built and callables that are imported before any trial runs, each of them once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.machine.node import Node
from sweeps.plan.ahead import LookAhead
from tracking.record import Trial

VGG = Trial(model="vgg16", batch=4)
TINY = Trial(model="tiny", batch=1)
MISSING = Trial(model="net", batch=1, target="no_such_package.net")


@pytest.fixture
def ahead(server: str) -> LookAhead:
    return LookAhead(lambda: server)


def test_a_net_that_cannot_be_built_is_reported_every_time(ahead: LookAhead) -> None:
    wrong = Trial(model="alexnet", batch=1, model_args={"image_size": 8})
    (problem,) = ahead.net_problems([TINY, wrong])
    assert problem.startswith("model=alexnet model.image_size=8: the net cannot be built: ")
    assert ahead.net_problems([wrong]) == [problem]
    assert ahead.net_problems([TINY]) == []


def test_operations_are_counted_on_request(ahead: LookAhead) -> None:
    assert ahead.net_problems([TINY]) == []
    (net,) = ahead.nets.nets.values()
    assert net.forward_flops is None
    assert ahead.net_problems([TINY], flops=True) == []
    (net,) = ahead.nets.nets.values()
    assert net.forward_flops is not None
    assert net.forward_flops > 0


def test_a_callable_that_cannot_be_imported_is_a_problem_of_imports_alone(ahead: LookAhead) -> None:
    (problem,) = ahead.import_problems([TINY, MISSING])
    assert problem.startswith("model._target_=no_such_package.net: expected a callable that can be imported here.")
    assert ahead.import_problems([MISSING]) == [problem]
    assert ahead.net_problems([MISSING]) == []


def test_memory_is_estimated_for_nets_that_were_built(ahead: LookAhead) -> None:
    small = Node(cpus=2, memory_mb=1000)
    assert ahead.memory_warnings([VGG], [small]) == []
    assert ahead.net_problems([VGG]) == []
    (warning,) = ahead.memory_warnings([VGG], [small])
    assert warning.startswith("vgg16 at batch 4 on cpu will take about ")
    assert ahead.memory_warnings([VGG], [small, Node(cpus=2, memory_mb=64_000)]) == []


def test_what_is_known_needs_no_server(server: str, tmp_path: Path) -> None:
    addresses = [server]
    ahead = LookAhead(lambda: addresses[0])
    assert ahead.net_problems([TINY]) == []
    problems = ahead.import_problems([MISSING])
    addresses[0] = str(tmp_path / "nobody")
    assert ahead.net_problems([TINY]) == []
    assert ahead.import_problems([MISSING]) == problems
