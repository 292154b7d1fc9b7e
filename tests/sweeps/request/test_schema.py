from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pytest
from hydra import compose

from sweeps.errors import UsageError
from sweeps.request import schema
from sweeps.request.compose import drop_defaults_of_nets
from tracking.record import Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Adaptive, Classic
from tracking.schema.reading import Within

CONF = Path(__file__).resolve().parents[3] / "conf"


pytestmark = pytest.mark.usefixtures("hydra")


def read(overrides: tuple[str, ...]) -> tuple[Trial, list[str]]:
    config = compose("config", list(overrides))
    drop_defaults_of_nets(config, overrides)
    return schema.read(config)


def trial(*overrides: str) -> Trial:
    made, problems = read(overrides)
    assert problems == []
    return made


def problems(*overrides: str) -> list[str]:
    return read(overrides)[1]


def test_the_defaults_are_the_records() -> None:
    made = trial("model=vgg16")
    assert made == Trial(model="vgg16", batch=32, model_args={"num_classes": 1000, "image_size": 224, "keep_prob": 0.5})
    assert made.protocol == Adaptive()
    assert trial("protocol=classic").protocol == Classic()
    assert asdict(made.device) == asdict(Device())


def test_every_override_reaches_the_trial() -> None:
    made = trial("model=tiny", "model.num_classes=7", "batch=4", "device=gpu", "device.gpus=2", "precision=tf32",
                 "compile=xla", "passes=[forward]", "layout=channels_first", "device.gpu_memory_mb=900",
                 "protocol=classic", "protocol.steps=5", "seed=9",
                 "timeout_s=1.5")  # fmt: skip
    assert made.model_args["num_classes"] == 7
    assert (made.batch, made.precision, made.compile, made.passes) == (4, "tf32", "xla", ("forward",))
    assert (made.layout, made.device.gpu_memory_mb) == ("channels_first", 900)
    assert (made.device.name, made.device.kind, made.device.gpus) == ("gpu", "gpu", 2)
    assert (made.protocol, made.seed, made.timeout_s) == (Classic(steps=5), 9, 1.5)


def test_a_named_gpu_is_one_of_its_kind() -> None:
    made = trial("device=h100").device
    assert (made.name, made.kind, made.gpus, made.accelerator) == ("h100", "gpu", 1, "H100")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["device=gpu", "device.gpus=2", "batch=3"],
            "device.gpus=2: expected a batch size divisible by 2, as",
        ),
        (
            ["device=gpu", "device.gpus=2", "batch=2", "compile=eager"],
            "compile=graph or xla with several GPUs",
        ),
        (["device=gpu", "device.gpu_memory_mb=0"], "device.gpu_memory_mb=0: expected at least 1"),
        (["profile=true", "task=probe"], "profile=true: expected task=benchmark with it. Received: task=probe."),
        (["device.gpus=1"], "device.gpus=1: expected device.kind=gpu with it"),
        (
            ["layout=channels_first", "precision=float16"],
            "compile=xla for float16 convolutions with channels first",
        ),
    ],
)
def test_what_tensorflow_does_not_have_is_refused(overrides: list[str], words: str) -> None:
    (problem,) = problems(*overrides)
    assert words in problem


def test_a_keras_model_is_called_by_its_name() -> None:
    made = trial("model=keras", "model.name=MobileNetV2")
    assert (made.model, made.target) == ("MobileNetV2", None)


def test_a_callable_is_called_by_its_own_name_and_gets_only_what_is_meant_for_it() -> None:
    made = trial("model._target_=tests.support.models.healthy.small", "+model.width=6")
    assert (made.model, made.target, made.model_args) == ("small", "tests.support.models.healthy.small", {"width": 6})
    assert trial("model._target_=tests.support.models.healthy.small", "model.name=mine").model == "mine"
    target = "model._target_=tests.support.models.healthy.classes"
    for model, classes in (("tiny", "10"), ("vgg16", "1000"), ("alexnet_conv", "7")):
        made = trial(f"model={model}", target, f"++model.num_classes={classes}", "seed=${model.num_classes}")
        assert (made.model_args, made.seed) == ({"num_classes": int(classes)}, int(classes))
        assert trial(f"model={model}", target).model_args == {}
    (problem,) = problems(target, "model.image_size=64")
    assert "image_size" in problem


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("protocol.name=classic", "protocol.name=classic: expected adaptive, as protocol=adaptive was chosen"),
        (
            "cluster.name=ray",
            "cluster.name=ray: expected local, as cluster=local was chosen; set cluster=ray instead.",
        ),
        ("task.name=nonsense", "task.name=nonsense: expected benchmark"),
    ],
)
def test_a_group_is_chosen_and_not_renamed(override: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        problems(override)
    (problem,) = caught.value.problems
    assert problem.startswith(sentence)


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_is_one_of_keras(seed: str) -> None:
    (problem,) = problems(f"seed={seed}")
    assert problem.startswith(f"seed={seed}: expected at ")


def test_paths_sinks_and_clusters_do_not_change_the_id() -> None:
    same = trial("cluster=inline", "tracking=none", "tracking.experiment=other", "order=grid", "timeout_s=9")
    assert same.trial_id == trial().trial_id


def test_all_problems_of_a_config_are_reported_together() -> None:
    wrong = ["batch=0", "repeats=0", "timeout_s=0", "passes=[]", "device.threads=0", "protocol.target=0"]
    assert len(problems(*wrong)) == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("timeout_s=nan", "expected more than 0. Received: nan."),
        ("protocol.target=nan", "expected more than 0. Received: nan."),
        ("protocol.max_warmup_seconds=nan", "expected at least 0. Received: nan."),
        ("protocol.max_steps=9", "expected at least 10. Received: 9."),
        ("cluster.cpus=0", "expected at least 1. Received: 0."),
        ("cluster.gpus=-1", "expected at least 0. Received: -1."),
    ],
)
def test_numbers_out_of_range(override: str, message: str) -> None:
    assert problems(override) == [f"{override}: {message}"]


def test_the_limits_of_an_axis_are_those_that_its_field_states() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Narrow(Trial):
        seed: Annotated[int, Within(3, 5)] = 4

    lows, highs = schema._limits(Narrow)
    assert (lows["seed"], highs["seed"]) == (3, 5)
    assert lows["batch"] == 1


@pytest.mark.parametrize(
    "override",
    ["protocol.max_seconds=inf", "protocol.target=1e+13", "timeout_s=1e+300", "device.memory_mb=9223372036854775808"],
)
def test_no_value_is_accepted_with_which_the_plan_could_not_be_read(override: str) -> None:
    (problem,) = problems(override)
    assert problem.startswith(f"{override}: expected at most ")


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1"])
def test_a_node_is_waited_for_some_time(seconds: str) -> None:
    message = f"cluster.wait_s={seconds}: expected a number of seconds above 0. Received: {seconds}."
    assert problems("cluster=ray", f"cluster.wait_s={seconds}") == [message]


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_every_model_file_makes_a_trial(name: str) -> None:
    trial(f"model={name}")


def test_an_optimizer_is_a_choice_with_arguments() -> None:
    assert trial("model=tiny").optimizer == {}
    made = trial("passes=[train_step]", "optimizer=momentum", "optimizer.learning_rate=1", "+optimizer.clipnorm=2")
    assert made.optimizer == {
        "name": "momentum",
        "learning_rate": 1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": None,
        "clipnorm": 2,
    }
    assert trial("passes=[train_step]", "loss=SparseCategoricalCrossentropy").loss == "SparseCategoricalCrossentropy"
    assert trial("passes=[train_step]", "loss=tests.support.models.trained.my_loss").loss is not None


@pytest.mark.parametrize(
    ("overrides", "sentences"),
    [
        (
            ("optimizer=adam", "loss=mse"),
            [
                "optimizer=adam: expected train_step among passes with it. Received: passes=[forward,forward",
                "loss=mse: expected train_step among passes with it. Received: passes=[forward,forward_backward].",
            ],
        ),
        (
            ("task=probe", "optimizer=sgd"),
            ["optimizer=sgd: expected task=benchmark with it. Received: task=probe."],
        ),
        (
            ("passes=[train_step]", "optimizer=adam", "+optimizer.xyz=1", "optimizer.beta_1=x", "loss=msee"),
            ["optimizer.beta_1: expected beta_1 to be float. Received: beta_1='x'.", "adam has no argument 'xyz'.",
             "loss=msee: there is no loss of that name in keras.losses. Did you mean"],
        ),
        (
            ("passes=[train_step]", "loss=no_such_module.loss"),
            ["loss=no_such_module.loss: There is no module 'no_such_module'."],
        ),
        (
            ("passes=[train_step]", "loss=os.system"),
            ["loss=os.system: expected a callable of your own or of an installed package. Received: os.system"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_optimizer_and_loss(overrides: tuple[str, ...], sentences: list[str]) -> None:
    found = problems("model=tiny", *overrides)
    assert len(found) == len(sentences)
    for problem, sentence in zip(found, sentences, strict=True):
        assert sentence in problem
