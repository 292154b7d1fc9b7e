from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.machine.node import Node
from sweeps.request import options
from sweeps.request.diagnosis import diagnose

CONF = Path(__file__).resolve().parents[3] / "conf"


def diagnosis(*overrides: str) -> list[str]:
    options.register()
    return diagnose(overrides, CONF, [Node(cpus=2)])


def test_a_good_command_line_has_no_diagnosis() -> None:
    assert diagnosis("model=vgg16,tiny", "batch=1,2", "device.threads=1") == []
    assert diagnosis("model._target_=tests.support.models.healthy.small", "+model.width=6", "batch=2") == []
    assert diagnosis("model=keras", "model.name=MobileNetV2", "+model.alpha=0.5", "batch=2") == []


def test_a_value_is_tried_under_every_choice_of_its_group() -> None:
    (sentence,) = diagnosis("model=alexnet_conv,tiny", "model.lrn=true,false")[:1]
    assert sentence.startswith("model.lrn=True: model has no key 'lrn'. Valid: _target_, image_size, name,")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("modle.lrn=1", "modle.lrn=1: there is no key 'modle'. Did you mean model"),
        ("hydra.sweep.drr=x", "hydra.sweep.drr=x: hydra.sweep has no key 'drr'. Did you mean dir?"),
        ("model.image_size.x=2", "model.image_size.x=2: model.image_size has no keys of its own."),
        ("+device.cpu=3", "+device.cpu: device has no key 'cpu'. Did you mean cpus or gpus?"),
        ("+task.images=x.jpg", "+task.images: task has no key 'images'. Valid: name."),
    ],
)
def test_an_unknown_key_is_reported_with_the_nearest(override: str, sentence: str) -> None:
    (problem,) = diagnosis("batch=range(1,101)", "hydra.sweep.dir=here", override)
    assert problem.startswith(sentence)


def test_a_key_that_was_removed_is_missed() -> None:
    assert diagnosis("~batch") == ["batch: expected a value. Received: none."]
    assert diagnosis("~model.name") == ["model.name: expected a value. Received: none."]


KUBERNETES = ["cluster=kubernetes", "cluster.image=i", "cluster.claim=c"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["device.node_labels.zone=c"],
            "device.node_labels has no key 'zone'. Write +device.node_labels.zone=c to add it.",
        ),
        (["cluster=slurm", "cluster.sbatch.qos=high"], "Write +cluster.sbatch.qos=high to add it."),
        (
            ["device.node_labels.topology.zone=c"],
            "no key 'topology.zone'. Write +device.node_labels={topology.zone: c} to add it.",
        ),
        (["device.resources={disk: 1}"], "no key 'disk'. Write +device.resources={disk: 1} to add it."),
        ([*KUBERNETES, "cluster.node_selector.gpu=a"], "no key 'gpu'. Write +cluster.node_selector.gpu=a to add it."),
        (
            ["model._target_=tests.support.models.healthy.small", "model.width=6"],
            "Did you mean weights? Write +model.width=6 to add it.",
        ),
    ],
)
def test_where_any_key_may_be_added_the_message_says_how(overrides: list[str], message: str) -> None:
    (problem,) = diagnosis(*overrides)
    assert problem.endswith(message)
    _, _, command = problem.partition("Write ")
    added = command.removesuffix(" to add it.")
    assert not any("has no key" in sentence for sentence in diagnosis(*overrides[:-1], added))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("calibrate=maybe", "expected true or false. Received: 'maybe'."),
        ("order=random", "expected one of grid, interleaved. Received: 'random'."),
        ("order=gird", "expected one of grid, interleaved. Received: 'gird'. Did you mean grid?"),
        ("batch=two", "expected a whole number. Received: 'two'."),
        ("+device.resources.disk=much", "expected a number. Received: 'much'."),
        ("passes=forward", "expected a list, such as passes=[forward]. Received: 'forward'."),
        (
            "device.node_labels=c",
            "expected names and values, such as +device.node_labels={NAME: VALUE}. Received: 'c'.",
        ),
    ],
)
def test_a_value_that_its_key_does_not_take(override: str, message: str) -> None:
    assert diagnosis(override) == [f"{override}: {message}"]


def test_a_value_of_the_wrong_type_hides_no_other_problem_of_the_cluster() -> None:
    wrong = ["cluster.nodes=0", "cluster.cpus=-1", "cluster.time=abc", "cluster.gpus=x", "cluster.setup={a: b}"]
    sentences = diagnosis("cluster=slurm", *wrong)
    assert len(sentences) == len(wrong)
    assert "cluster.gpus=x: expected a whole number. Received: 'x'." in sentences
    assert any("expected a list, such as cluster.setup=[VALUE,VALUE]." in sentence for sentence in sentences)
    for override in wrong[:3]:
        assert any(sentence.startswith(f"{override}: ") for sentence in sentences)


def test_an_optimizer_that_does_not_exist_is_reported_with_the_nearest_and_nothing_else() -> None:
    (sentence,) = diagnosis("passes=[train_step]", "optimizer=sgd,adm")
    assert sentence == "optimizer=adm: there is no optimizer of that name. Did you mean adam or nadam or adamw?"
    (sentence,) = diagnosis("optimizer=adam", "passes=[train_step]", "optimizer.learning_rte=1")
    assert sentence.startswith("optimizer.learning_rte=1: optimizer has no key 'learning_rte'. Did you mean learning_r")
    assert diagnosis("optimizer=adam,sgd", "passes=[train_step]", "+optimizer.clipnorm=1,2", "loss=mse") == []
