"""Optimizers and losses by name: what the source text says is what Keras has, and what `conf/optimizer/` offers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import pytest
from omegaconf import OmegaConf

from nets import keras_names

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"
WRAPPERS = {"LossScaleOptimizer", "MultiOptimizer", "Optimizer"}
UNLIKE_KERAS = {("momentum", "momentum"): 0.9}


def classes() -> dict[str, Any]:
    known = {name: kind for name, kind in vars(keras.optimizers).items() if inspect.isclass(kind)}
    optimizers = {name: kind for name, kind in known.items() if issubclass(kind, keras.optimizers.Optimizer)}
    return {name: kind for name, kind in optimizers.items() if name not in WRAPPERS}


def test_every_class_of_keras_has_a_file_and_every_file_a_class() -> None:
    offered = {path.stem: keras_names.class_of({"name": path.stem}) for path in CONF.glob("*.yaml")}
    assert offered.keys() == keras_names.optimizers().keys()
    assert set(offered.values()) == classes().keys()


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_defaults_are_those_of_keras(path: Path) -> None:
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    name = config["name"]
    assert name == path.stem
    parameters = inspect.signature(classes()[keras_names.class_of(config)]).parameters
    own = {key for key in parameters if key not in {*keras_names.OF_EVERY_OPTIMIZER, "name", "kwargs"}}
    assert config.keys() - {"name"} == own
    for key in own:
        assert config[key] == UNLIKE_KERAS.get((name, key), parameters[key].default), key
    assert parameters.keys() - {"kwargs", "name"} == keras_names.optimizers()[name].arguments.keys()


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_makes_its_optimizer(path: Path) -> None:
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    assert keras_names.check_optimizer(config) == []
    made = keras_names.make_optimizer({**config, "learning_rate": 0.25, "global_clipnorm": 3.0})
    assert float(made.learning_rate) == 0.25
    assert made.global_clipnorm == 3.0


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"name": "adm"}, "optimizer=adm: there is no optimizer of that name. Did you mean adam or nadam or adamw?"),
        ({"name": "adam", "beta1": 0.5}, "adam has no argument 'beta1'. Did you mean beta_1 or beta_2?"),
        (
            {"name": "sgd", "learning_rate": "fast"},
            "expected learning_rate to be float. Received: learning_rate='fast'",
        ),
        ({"name": "sgd", "learning_rate": None}, "expected learning_rate to be float. Received: learning_rate=null."),
        ({"name": "sgd", "momentum": 1.5}, "optimizer.momentum=1.5: expected a number from 0 to 1. Received: 1.5."),
        ({"name": "sgd", "nesterov": 1}, "expected nesterov to be bool. Received: nesterov=1"),
        ({"name": "sgd", "clipnorm": 1, "clipvalue": 2}, "one way to clip gradients. Received: clipnorm and clipvalue"),
        ({"learning_rate": 0.1}, "expected optimizer=NAME with optimizer.learning_rate=0.1"),
    ],
)
def test_what_is_wrong_with_an_optimizer(config: dict[str, Any], sentence: str) -> None:
    (problem,) = keras_names.check_optimizer(config)
    assert sentence in problem


def test_keras_takes_every_name_of_a_loss() -> None:
    for name in keras_names.losses():
        assert callable(getattr(keras.losses, name, None) or keras.losses.get(name)), name
    assert {"mse", "SparseCategoricalCrossentropy", "huber"} <= keras_names.losses()
    assert "Loss" not in keras_names.losses()


def test_an_unknown_loss_gets_the_nearest_names() -> None:
    assert keras_names.check_loss("mse") == []
    (problem,) = keras_names.check_loss("binary_crossentrpy")
    assert (
        "loss=binary_crossentrpy: there is no loss of that name in keras.losses. Did you mean binary_cross" in problem
    )
