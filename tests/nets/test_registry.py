from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import nets
from nets import registry

ROOT = Path(__file__).parents[2]
OURS = [
    *("alexnet", "alexnet_conv", "inception_v3", "resnet_v2_101", "resnet_v2_152", "resnet_v2_200", "resnet_v2_50"),
    *("tiny", "vgg16"),
]


def test_names_are_ours() -> None:
    assert nets.names() == OURS


def test_every_name_has_a_config_with_the_same_arguments_and_defaults() -> None:
    import importlib

    files = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert sorted(files) == sorted([*OURS, "keras", "file"])
    for name in OURS:
        config = files[name]
        assert config.pop("name") == name
        assert config.pop("_target_") is None
        assert config.pop("weights") is None
        function = getattr(importlib.import_module(registry._signature(name).module), name)
        assert config == {key: value.default for key, value in inspect.signature(function).parameters.items()}


def test_keras_config_is_valid() -> None:
    config = yaml.safe_load((ROOT / "conf" / "model" / "keras.yaml").read_text())
    name = config.pop("name")
    assert (config.pop("_target_"), config.pop("weights")) == (None, None)
    assert nets.check(name, config) == []


def test_import_is_light() -> None:
    heavy = ("tensorflow", "keras", "ray", "mlflow", "hydra", "numpy")
    code = (
        "import sys, nets; nets.names();"
        "problems = nets.check('vgg17', {}) + nets.check('ResNet50V2', {'num_clases': 1});"
        f"assert len(problems) == 2; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vgg17", "vgg16"),
        ("resnet_v2_51", "resnet_v2_50"),
        ("mobilenetv3larg", "MobileNetV3Large"),
        ("alexnet-conv", "alexnet_conv"),
    ],
)
def test_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    [problem] = nets.check(name, {})
    assert f"'{name}'" in problem
    assert near in problem
    with pytest.raises(nets.UnknownNet, match=near):
        nets.build(name)


@pytest.mark.parametrize("name", ["build", "from_target", "rows", "_resnet_v2", "application", ""])
def test_other_functions_of_the_package_are_no_nets(name: str) -> None:
    with pytest.raises(nets.UnknownNet):
        nets.build(name)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("vgg16", {"num_clases": 10}, "'num_clases'. Did you mean num_classes"),
        ("vgg16", {"num_classes": "ten"}, "expected num_classes to be int. Received: num_classes='ten'"),
        ("vgg16", {"num_classes": True}, "num_classes=True"),
        ("vgg16", {"num_classes": 0}, "at least 1"),
        ("vgg16", {"keep_prob": 0}, "0 < keep_prob <= 1"),
        ("vgg16", {"keep_prob": float("nan")}, "0 < keep_prob <= 1"),
        ("alexnet_conv", {"lrn": 1}, "expected lrn to be bool"),
        ("alexnet_conv", {"keep_prob": 0.5}, "no argument 'keep_prob'"),
        ("alexnet", {"image_size": 66}, "at least 67"),
        ("inception_v3", {"image_size": 74}, "at least 75"),
        ("MobileNetV2", {"alpa": 0.5}, "Did you mean alpha"),
        ("MobileNetV2", {"alpha": "half"}, "expected alpha to be float"),
        ("MobileNetV2", {"weights": "imagenet"}, "no argument 'weights'"),
        ("MobileNetV2", {"num_classes": 1.5}, "num_classes=1.5"),
    ],
)
def test_bad_arguments(name: str, args: dict[str, object], words: str) -> None:
    [problem] = nets.check(name, args)
    assert words in problem
    assert problem.startswith(name)
    with pytest.raises(nets.BadArguments) as raised:
        nets.build(name, **args)
    assert words in str(raised.value)


def test_every_problem_is_named() -> None:
    assert len(nets.check("vgg16", {"num_classes": "ten", "keep_prob": 2, "lrn": True})) == 3


def test_arguments() -> None:
    assert nets.arguments("alexnet_conv") == {"image_size", "lrn"}
    assert nets.arguments("MobileNet") == {"num_classes", "image_size", "alpha", "depth_multiplier", "dropout"}
    with pytest.raises(nets.UnknownNet):
        nets.arguments("vgg17")


def test_none_is_the_default() -> None:
    assert nets.check("tiny", {"image_size": None, "num_classes": None}) == []
    assert nets.build("tiny", image_size=None, num_classes=3).output_shape == (None, 3)


def test_smallest_sizes_have_an_output() -> None:
    assert nets.build("alexnet", image_size=67, num_classes=2).output_shape == (None, 2)
    assert nets.build("alexnet_conv", image_size=67).output_shape == (None, 1, 1, 256)
    assert nets.build("inception_v3", image_size=75, num_classes=2).trunk.output_shape[1] == (None, 3, 3, 768)


def test_all_models_of_keras_applications_are_known() -> None:
    import keras

    functions = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert set(registry._applications()) == functions


@pytest.mark.parametrize(
    ("name", "args", "image", "logits"),
    [
        ("MobileNetV3Small", {}, (224, 224, 3), 1000),
        ("MobileNetV2", {"num_classes": 7, "image_size": 96, "alpha": 0.35}, (96, 96, 3), 7),
        ("EfficientNetB1", {"image_size": None}, (240, 240, 3), 1000),
        ("DenseNet121", {"image_size": 64}, (64, 64, 3), 1000),
    ],
)
def test_keras_applications(name: str, args: dict[str, object], image: tuple[int, ...], logits: int) -> None:
    import keras

    model = nets.build(name, **args)
    assert model.name == name
    assert model.input_shape == (None, *image)
    assert model.output_shape == (None, logits)
    assert model.layers[-1].activation is keras.activations.linear
    rescaled = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    assert bool(rescaled) == (name == "EfficientNetB1")
