"""One trial over several devices, on logical devices of the processor: what a machine with GPUs only confirms."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.wire import Send
from tracking.record import Trial
from tracking.schema.device import Device

DEEP = Trial(model="alexnet_conv", batch=8, model_args={"image_size": 67, "lrn": True})
TINY = Trial(model="tiny", batch=6)
PAIR = Device(name="pair", cpus=2, gpus=2)


def on_two_devices(trial: Trial) -> tuple[Any, Any, Any, Any]:
    """Return the strategy over two logical devices, the trial's net on both and on one alone, and its batch."""
    import tensorflow as tf

    from sweeps.tasks import setup
    from sweeps.tasks.timing import replicas
    from tests.support.batches import fed

    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    setup.configure(replace(trial, device=Device(cpus=2)))
    mirrored = replicas.strategy(["CPU:0", "CPU:1"])
    with mirrored.scope():
        model = setup.build(trial)
    single = setup.build(trial)
    images = fed(trial, model)
    return mirrored, model, single, images


def probe(trial: Trial, send: Send) -> None:
    """Both passes on two logical devices and on one, from the same weights and the same batch."""
    import tensorflow as tf

    from sweeps.tasks.timing import in_force
    from sweeps.tasks.timing.steps import step_function

    mirrored, model, single, images = on_two_devices(trial)
    for name in trial.passes:
        step = step_function(name, model, images, trial.compile, mirrored)
        outputs = tf.nest.flatten(step())
        parts = [[part.numpy() for part in mirrored.experimental_local_results(output)] for output in outputs]
        expected = tf.nest.flatten(step_function(name, single, images, trial.compile)())
        send(name, (parts, [tensor.numpy() for tensor in expected]))
        if trial.device.gpus > 1:
            send(f"{name} in force", in_force.check(trial, step, model))


def found_by(server: str, trial: Trial, function: str = "probe") -> dict[str, Any]:
    found: dict[str, Any] = {}
    with connect(server) as connection:
        connection.send(Call(function=f"tests.sweeps.tasks.timing.test_replicas:{function}", argument=trial))
        while "exit" not in found:
            kind, value = connection.recv()
            found[kind] = value
    assert os.waitstatus_to_exitcode(found["exit"]) == 0
    return found


@pytest.mark.parametrize("trial", [DEEP, replace(TINY, compile="xla")], ids=["graph", "xla"])
def test_two_devices_find_what_one_finds(server: str, trial: Trial) -> None:
    found = found_by(server, replace(trial, device=PAIR))
    ((logits, (expected,)), (gradients, expected_gradients)) = found["forward"], found["forward_backward"]
    close(np.concatenate(logits[0]), expected)
    assert len(gradients) == len(expected_gradients) > 0
    for (one, other), whole in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(one, other)  # summed over both, so the same on both
        close(one, whole)
    for name in ("forward", "forward_backward"):
        facts = found[f"{name} in force"]
        assert facts["compiler"] == trial.compile
        assert facts["devices"] == ["CPU:0", "CPU:1"]
        assert facts["dtypes"] == {"float32": facts["dtypes"]["float32"]}


def trained(trial: Trial, send: Send) -> None:
    """The weights after two training steps on two logical devices and on one, from the same weights and batch."""
    from nets.counting import layers, work
    from sweeps.tasks.timing import in_force
    from sweeps.tasks.timing.inspection import Inspection
    from sweeps.tasks.timing.train_step import Training

    mirrored, model, single, images = on_two_devices(trial)
    for name, net, strategy in (("two", model, mirrored), ("one", single, None)):
        traced = layers.trace(net, trial.batch, training=True)
        training = Training(trial, net, images, None, traced, strategy)
        step = training.step()
        inspection = Inspection(step, trial.compile, work.training(traced))
        inspection.start()
        inspection.look(step())
        training.updates.start()
        step()
        send(name, net.get_weights())
        send(f"{name} evidence", training.updates.stop(1) | inspection.evidence)
        if strategy is not None:
            facts = in_force.check(trial, step, net) | training.in_force()
            send("facts", {key: facts[key] for key in ("compiler", "devices", "optimizer", "loss")})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("compiler", ["graph", "xla"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_two_devices_train_as_one_does(server: str, optimizer: str, compiler: Any, precision: Any) -> None:
    trial = replace(TINY, compile=compiler, precision=precision, optimizer={"name": optimizer}, passes=("train_step",))
    found = found_by(server, replace(trial, device=PAIR), "trained")
    for two, one in zip(found["two"], found["one"], strict=True):
        assert np.abs(two - one).max() <= (1e-4 if precision == "float32" else 1e-2) * np.abs(one).max() + 1e-6
    facts = found["facts"]
    assert (facts["compiler"], facts["devices"]) == (compiler, ["CPU:0", "CPU:1"])
    assert facts["optimizer"]["class"].lower() == optimizer
    evidence = found["two evidence"]
    assert evidence["work_share"] == 1.0
    assert evidence["nonfinite_outputs"] == evidence["nonfinite_weights"] == 0
    assert evidence.get("skipped_updates", 0.0) == 0.0
    assert ("skipped_updates" in evidence) == (precision == "float16")


def nothing(trial: Trial, send: Send) -> None:
    """What becomes of a frozen net and of one that ignores its input, on two logical devices and without a compiler."""
    import tensorflow as tf

    from nets.counting import layers, work
    from sweeps.tasks.graphs import inputs
    from sweeps.tasks.timing import replicas
    from sweeps.tasks.timing.inspection import Inspection
    from sweeps.tasks.timing.steps import step_function
    from tests.support.models.odd_graphs import broken

    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    mirrored = replicas.strategy(["CPU:0", "CPU:1"])
    for kind, name in (("frozen", "forward_backward"), ("zeros", "forward")):
        with mirrored.scope():
            model = broken(kind)
        traced = layers.trace(model, trial.batch)
        batch = inputs.feed(trial, traced).tensors
        for compiler in ("graph", "xla", "eager"):
            step = step_function(name, model, batch, compiler, None if compiler == "eager" else mirrored)  # type: ignore[arg-type]
            inspection = Inspection(step, compiler, work.forward(traced))  # type: ignore[arg-type]
            try:
                inspection.start()
                inspection.look(step())
            except RuntimeError as error:
                send(f"{kind} {compiler}", str(error))


@pytest.mark.parametrize(("kind", "words"), [("frozen", "no trainable variable"), ("zeros", "the same outputs for")])
def test_replicas_and_eager_steps_that_do_nothing_are_errors(server: str, kind: str, words: str) -> None:
    found = found_by(server, TINY, "nothing")
    assert all(words in found[f"{kind} {compiler}"] for compiler in ("graph", "xla", "eager"))


def where(trial: Trial, send: Send) -> None:
    """The device of the whole batch, where TensorFlow on its own would put everything on the second one."""
    import tensorflow as tf

    from sweeps.tasks import setup
    from tests.support.batches import fed

    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    model = setup.build(trial)
    with tf.device("CPU:1"):
        for gpus in (1, 2):
            alike = replace(trial, device=replace(PAIR, gpus=gpus))
            send(str(gpus), fed(alike, model).device.rpartition("device:")[2])


def test_the_whole_batch_of_several_gpus_is_on_none_of_them(server: str) -> None:
    found = found_by(server, TINY, "where")
    assert (found["1"], found["2"]) == ("CPU:1", "CPU:0")


def test_the_batch_is_in_equal_parts(server: str) -> None:
    parts, _ = found_by(server, replace(TINY, passes=("forward",)))["forward"]
    assert [part.shape for part in parts[0]] == [(3, 10), (3, 10)]


def close(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
