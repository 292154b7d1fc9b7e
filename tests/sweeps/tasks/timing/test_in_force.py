"""TensorFlow does what the trial requests: each check runs in its own process, against a setting that differs."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.wire import Send
from tracking.record import Trial
from tracking.schema.device import Device

TINY = Trial(model="tiny", batch=1)


def probe(argument: tuple[Trial, Trial], send: Send) -> None:
    """Set a process up for one trial and check it against another."""
    from sweeps.tasks import setup
    from sweeps.tasks.timing import in_force
    from sweeps.tasks.timing.steps import step_function
    from tests.support.batches import fed

    real, claimed = argument
    setup.configure(real)
    model = setup.build(real)
    images = fed(real, model)
    step = step_function("forward_backward", model, images, real.compile)
    step()
    try:
        send("facts", in_force.check(claimed, step, model))
    except in_force.NotInForceError as error:
        send("refused", str(error))


def outcome(server: str, real: Trial, claimed: Trial) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with connect(server) as connection:
        connection.send(Call(function="tests.sweeps.tasks.timing.test_in_force:probe", argument=(real, claimed)))
        while "exit" not in found:
            kind, value = connection.recv()
            found[kind] = value
    assert os.waitstatus_to_exitcode(found["exit"]) == 0
    return found


@pytest.mark.parametrize("compiler", ["graph", "xla", "eager"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_what_is_in_force_is_reported(server: str, compiler: str, precision: str) -> None:
    trial = replace(TINY, compile=compiler, precision=precision, device=Device(threads=1))  # type: ignore[arg-type]
    facts = outcome(server, trial, trial)["facts"]
    assert facts["threads"] == 1
    assert facts["compiler"] == compiler
    assert set(facts["dtypes"]) == {precision}


@pytest.mark.parametrize("compiler", ["graph", "xla", "eager"])
def test_the_layout_is_reported(server: str, compiler: str) -> None:
    trial = replace(TINY, compile=compiler, layout="channels_first")  # type: ignore[arg-type]
    facts = outcome(server, trial, trial)["facts"]
    assert facts["layout"] == "channels_first"
    if compiler == "eager":
        assert facts["layouts"] == {"channels_first": 2}
    else:
        assert facts["data_formats"] == {"NCHW": 3}


@pytest.mark.parametrize(
    ("capabilities", "on"),
    [
        ([(9, 0)], True),
        ([(8, 0), (8, 6)], True),
        ([(7, 5)], False),
        ([(9, 0), (7, 0)], False),
        ([None], False),
        ([], False),
    ],
)
def test_tf32_is_in_force_only_on_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int] | None], on: bool
) -> None:
    """There is no GPU here, so what TensorFlow reports about GPUs is replaced."""
    import tensorflow as tf

    from sweeps.tasks.timing import in_force

    details = [{} if found is None else {"compute_capability": found} for found in capabilities]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: range(len(details)))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    monkeypatch.setattr(tf.config.experimental, "tensor_float_32_execution_enabled", lambda: True)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert in_force._tf32() is on
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert in_force._tf32() is False


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        (replace(TINY, precision="bfloat16"), "expected convolutions and products in bfloat16. Received: 6 in float32"),
        (replace(TINY, compile="xla"), "expected compile=xla. Received: XLA off"),
        (replace(TINY, layout="channels_first"), "layout=channels_first, convolutions of NCHW. Received: 3 in NHWC"),
        (replace(TINY, compile="eager"), "expected compile=eager. Received: a compiled function"),
        (replace(TINY, precision="tf32"), "expected precision=tf32. Received: TF32 off"),
        (replace(TINY, device=Device(threads=64)), "expected device.threads=64"),
    ],
)
def test_what_is_not_in_force_is_refused(server: str, claimed: Trial, words: str) -> None:
    assert words in outcome(server, TINY, claimed)["refused"]
