from __future__ import annotations

import os
import resource
import threading
from dataclasses import replace
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import pytest

import nets
from sweeps.machine.node import Node
from sweeps.machine.node_kinds import NodeKinds
from sweeps.plan import net_sizes, preflight
from sweeps.plan.preflight import Preflight, key, memory_of
from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.wire import Send
from tracking.record import Trial
from tracking.schema.device import Device

VGG = Trial(model="vgg16", batch=4)


@pytest.fixture(scope="module")
def looked(server: str) -> Preflight:
    found = Preflight()
    assert found.problems([VGG], lambda: server, flops=True) == []
    return found


def test_a_net_is_known_without_a_variable_filled(looked: Preflight) -> None:
    net = looked.nets[key(VGG)]
    assert net.parameter_mb * 2**20 == 4 * 138_357_544
    assert net.forward_flops == pytest.approx(30.97e9, rel=0.001)
    assert 2.9 < net.training_flops / net.forward_flops < 3.0
    assert net.largest_mb == 224 * 224 * 64 * 4 / 2**20


def _look_and_weigh(request: Any, send: Send) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    net_sizes.look(request, send)
    send("taken_mb", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def test_looking_at_a_net_takes_next_to_no_memory(server: str) -> None:
    """VGG16's variables alone are 528 MB: a container with room for its trial may have none for them twice."""
    request = ([(VGG.to_json(), {"name": "adam"})], True)
    with connect(server) as connection:
        connection.send(Call(function="tests.sweeps.plan.test_preflight:_look_and_weigh", argument=request))
        taken = [value for kind, value in iter(connection.recv, ("exit", 0)) if kind == "taken_mb"]
    assert taken[0] < 100


@pytest.mark.parametrize("name", [name for name in nets.names() if name not in ("vgg16", "resnet_v2_200")])
def test_every_net_of_ours_can_be_built_from_shapes(name: str, server: str) -> None:
    found = Preflight()
    trial = Trial(model=name, batch=1)
    assert found.problems([trial], lambda: server) == []
    assert found.nets[key(trial)].parameter_mb > 0


def test_all_nets_that_cannot_be_built_are_reported_together(server: str) -> None:
    small = {"image_size": 8}
    trials = [
        replace(VGG, model=name, model_args=small, batch=b) for name in ("alexnet", "inception_v3") for b in (1, 2)
    ]
    looked = Preflight()
    problems = looked.problems([*trials, VGG], lambda: server)
    assert looked.problems(trials[:1], lambda: server) == problems[:1]  # of a net that was looked at before, too
    assert len(problems) == 2
    for sentence, name in zip(problems, ("alexnet", "inception_v3"), strict=True):
        assert sentence.startswith(f"model={name} model.image_size=8: the net cannot be built: ")


def test_a_net_that_has_no_such_layout_is_reported(server: str) -> None:
    trials = [replace(VGG, layout="channels_first"), Trial(model="DenseNet121", batch=1, layout="channels_first")]
    found = Preflight()
    (problem,) = found.problems(trials, lambda: server)
    assert problem.startswith(
        "model=DenseNet121: the net cannot be built: DenseNet does not support the `channels_first`"
    )
    assert found.nets[key(trials[0])].parameter_mb == pytest.approx(528, rel=0.01)


def test_a_net_is_looked_at_once_and_a_callable_of_the_users_own_never(looked: Preflight) -> None:
    def no_server() -> str:
        raise AssertionError("nothing to ask")

    more = [VGG, replace(VGG, batch=512), Trial(model="mine", target="tests.support.models.failing.raising", batch=1)]
    assert looked.problems(more, no_server, flops=True) == []
    assert looked.memory_mb(more[2]) is None


def test_the_memory_estimate_is_near_what_was_measured(looked: Preflight) -> None:
    """Peaks of resident memory that were measured on a machine of two cores."""
    assert looked.memory_mb(replace(VGG, batch=1)) == pytest.approx(1814, rel=0.33)
    assert looked.memory_mb(replace(VGG, batch=1, passes=("forward",))) == pytest.approx(1731, rel=0.33)


@pytest.mark.parametrize(
    ("name", "optimizer", "measured_mb"),
    [("vgg16", "sgd", 1802), ("vgg16", "adam", 3308), ("resnet_v2_50", "sgd", 894), ("resnet_v2_50", "adam", 1215)],
)
def test_the_memory_of_a_training_step_has_that_of_its_optimizer(
    server: str, name: str, optimizer: str, measured_mb: float
) -> None:
    """Peaks of resident memory at batch 2, measured on a machine of two cores."""
    trial = Trial(model=name, batch=2, passes=("train_step",), optimizer={"name": optimizer})
    found = Preflight()
    assert found.problems([trial], lambda: server) == []
    assert found.memory_mb(trial) == pytest.approx(measured_mb, rel=0.33)
    state_mb = {"sgd": 0.0, "adam": 2 * 4 * 25_612_201 / 2**20 if name != "vgg16" else 2 * 4 * 138_357_544 / 2**20}
    assert found.nets[key(trial)].state_mb == pytest.approx(state_mb[optimizer], rel=0.01)


def test_what_will_hardly_fit_is_a_warning_at_its_smallest_batch(looked: Preflight) -> None:
    tight = Device(memory_mb=4000)
    trials = [replace(VGG, batch=batch, device=tight) for batch in (512, 256, 1)]
    (warning,) = looked.warnings(trials, [Node(cpus=2, memory_mb=30_000)])
    assert warning.startswith("vgg16 at batch 256 on cpu 4000 mb will take about ")
    assert "can have 4000 MB" in warning
    assert looked.warnings([replace(VGG, batch=1)], [Node(cpus=2, memory_mb=30_000)]) == []


def test_the_memory_of_a_trial_is_that_of_the_roomiest_node_that_it_fits() -> None:
    small = Node(cpus=2, memory_mb=30_000, memory_limit_mb=1500)
    large = Node(cpus=1, memory_mb=8000)
    assert memory_of(VGG, NodeKinds([small])) == 1500
    assert memory_of(VGG, NodeKinds([small, large])) == 8000
    assert memory_of(replace(VGG, device=Device(cpus=2)), NodeKinds([small, large])) == 1500
    assert memory_of(replace(VGG, device=Device(memory_mb=1000)), NodeKinds([small])) == 1000
    assert memory_of(VGG, NodeKinds([Node(cpus=2)])) is None


def test_the_memory_of_a_gpu_is_not_the_machines() -> None:
    gpu = Device(name="gpu", kind="gpu", gpus=1)
    node = Node(cpus=2, gpus=1, memory_mb=30_000)
    assert memory_of(replace(VGG, device=gpu), NodeKinds([node])) is None
    assert memory_of(replace(VGG, device=replace(gpu, gpu_memory_mb=2048)), NodeKinds([node])) == 2048


def test_a_lost_server_is_a_sentence(tmp_path: Path) -> None:
    with Listener(str(tmp_path / "socket"), family="AF_UNIX") as listener:
        lost = threading.Thread(target=lambda: listener.accept().close())
        lost.start()
        problems = Preflight().problems([VGG], lambda: str(tmp_path / "socket"))
        lost.join()
    assert problems == ["the nets could not be checked: the process that builds them has died"]


def _aborting(request: object, send: Send) -> None:
    del request, send
    os.write(2, b"the library has something to say\n")
    os.abort()


def test_what_the_building_process_died_of_is_reported(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(function: str, argument: object, log: str) -> Call:
        assert function == "sweeps.plan.net_sizes:look"
        return Call(function="tests.sweeps.plan.test_preflight:_aborting", argument=argument, log=log)

    monkeypatch.setattr(preflight, "Call", call)
    (sentence,) = Preflight().problems([VGG], lambda: server)
    message = (
        "the nets could not be checked: the process that builds them has died of SIGABRT\nthe library has something"
    )
    assert sentence.startswith(message)
