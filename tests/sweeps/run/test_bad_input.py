"""Bad input: reported in full before anything runs, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sweep_command import QUICK, run


def test_nets_that_cannot_be_built_are_reported_before_anything_runs(tmp_path: Path) -> None:
    done = run(
        tmp_path, "-m", "model=keras", "model.name=Xception,MobileNetV2", "model.image_size=48", "batch=1,2", *QUICK
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "model=Xception model.num_classes=1000 model.image_size=48: the net cannot be built" in done.stderr
    assert list(tmp_path.glob("multirun/*/*")) == []


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["-m", "model=vgg61,tiny", "batch=0,two"], ["Did you mean vgg16", "batch=0: ", "batch=two: expected a whole"]),
        (["modle=vgg16"], ["there is no key 'modle'. Did you mean model"]),
        (["passes=[sideways]"], ["expected one of forward, forward_backward, train_step. Received: 'sideways'"]),
        (["passes=forward"], ["as passes=[forward]"]),
        (["-m", "device=gpu,cpuu"], ["device=gpu asks for 1 GPU and this machine has none", "device=cpuu: "]),
        (["-m", "model=tiny", "device.cpus=99", "batch=0"], ["device.cpus=99 asks for 99 cores", "batch=0: "]),
        (["model=keras", "model.name=MobilNetV2"], ["Did you mean MobileNetV2"]),
        (["model=vgg16", "model.num_classes=many"], ["num_classes"]),
        (["model.weights=no.npy"], ["model.weights=no.npy: expected a file"]),
        (["precision=tf32"], ["expected an NVIDIA GPU"]),
        (
            ["model._target_=nets.architectures.vgg.vgg61"],
            ["vgg has no 'vgg61'. Did you mean vgg16"],
        ),
        (["protocol=classic", "protocol.steps=0", "repeats=0"], ["protocol.steps=0: ", "repeats=0: "]),
        (["protocol=classic", "protocol.target=0.1"], ["protocol has no key 'target'"]),
        (["tracking.sinks=[mlfow]"], ["did you mean 'mlflow'"]),
        (["resume=latest"], ["expected a sweep's folder"]),
        (["rerun=failed"], ["rerun=failed: expected resume= with it"]),
        (
            ["retries=-1", "fail_fast=0", "device.memory_mb=0"],
            ["retries=-1: ", "fail_fast=0: ", "device.memory_mb=0: "],
        ),
        (["-m", "retries=1,2", "model=tiny"], ["retries applies to the whole sweep"]),
        (["-m", "hydra.sweep.dir=/proc/sweep", "batch=0"], ["expected a results folder that can be", "batch=0: "]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_bad_input_is_reported_in_full_and_nothing_runs(
    tmp_path: Path, arguments: list[str], sentences: list[str]
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    printed = done.stderr.replace("\n", " ")
    for sentence in sentences:
        assert sentence in printed
    assert not list(tmp_path.rglob("plan.json"))
    assert not (tmp_path / "mlflow.db").exists()
