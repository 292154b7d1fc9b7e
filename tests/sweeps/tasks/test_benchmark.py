from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.isolate import run_trial
from sweeps.worker.wire import Send
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Result, Trial
from tracking.schema.protocols import Classic

ROOT = Path(__file__).resolve().parents[3]
TINY = Trial(model="tiny", batch=2, passes=("forward_backward",), protocol=Classic(burn_in=1, steps=20))


def run(trial: Trial, server: str, folder: Path) -> Result:
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    result = run_trial(trial, sweep_id="s", server=server, cores=(), env=cpu, folder=TrialFolder(folder))
    assert result.error is None
    return result


@pytest.mark.parametrize("compiler", ["graph", "xla"])
def test_the_first_call_is_taken_apart(server: str, tmp_path: Path, compiler: str) -> None:
    slow = replace(TINY, target="tests.support.models.healthy.slow_to_trace", model_args={"seconds": 0.5})
    result = run(replace(slow, compile=compiler), server, tmp_path)  # type: ignore[arg-type]
    measured = result.passes["forward_backward"]
    trace_s, compile_s = measured.evidence["trace_s"], measured.evidence["compile_s"]
    assert trace_s >= 0.5
    assert 0 < compile_s < measured.first_call_s - trace_s


def test_without_a_compiler_there_is_nothing_to_take_apart(server: str, tmp_path: Path) -> None:
    result = run(replace(TINY, compile="eager"), server, tmp_path)
    assert "trace_s" not in result.passes["forward_backward"].evidence


@pytest.mark.parametrize(("variable", "reported"), [("0", "off"), ("1", "on")])
def test_whether_tensorflow_uses_onednn_is_reported(tmp_path: Path, variable: str, reported: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("TensorFlow has oneDNN's choice on x86 only")
    code = (
        "from sweeps.tasks import setup; from tracking.record import Trial; "
        "print(setup.device_facts(Trial(model='tiny', batch=1))['onednn'])"
    )
    env = os.environ | {"TF_ENABLE_ONEDNN_OPTS": variable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{reported}\n"


def batch(trial: Trial, send: Send) -> None:
    from sweeps.tasks import setup
    from tests.support.batches import fed

    setup.configure(trial)
    model = setup.build(trial)
    send("batch", fed(trial, model).numpy())
    send("weights", model.get_weights())


def test_both_layouts_get_the_same_images_and_weights(server: str) -> None:
    found: dict[str, dict[str, list[np.ndarray]]] = {}  # type: ignore[type-arg]
    for layout in ("channels_last", "channels_first"):
        found[layout] = {}
        with connect(server) as connection:
            trial = replace(TINY, layout=layout)
            connection.send(Call(function="tests.sweeps.tasks.test_benchmark:batch", argument=trial))
            while (message := connection.recv())[0] != "exit":
                found[layout][message[0]] = message[1]
    last, first = found["channels_last"], found["channels_first"]
    np.testing.assert_array_equal(np.moveaxis(first["batch"], 1, -1), last["batch"])
    for one, other in zip(first["weights"], last["weights"], strict=True):
        np.testing.assert_array_equal(one, other)
