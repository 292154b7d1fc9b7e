"""Keras' optimizers and losses by name; names and arguments are checked by its source text, without importing it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nets import source_text
from nets.errors import did_you_mean

if TYPE_CHECKING:
    import keras

DEFAULT_OPTIMIZER: Mapping[str, Any] = {"name": "sgd"}
_ALSO = {"momentum": "sgd"}
"""Names for an optimizer under other defaults, which `conf/optimizer/` has."""
OF_EVERY_OPTIMIZER: source_text.Arguments = {
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "ema_momentum", "loss_scale_factor"), ("float",)),
    **dict.fromkeys(("ema_overwrite_frequency", "gradient_accumulation_steps"), ("int",)),
    "use_ema": ("bool",),
}
"""Arguments that every optimizer takes, which `conf/optimizer/` leaves out."""
_TYPES: source_text.Arguments = {"weight_decay": ("float",), "adam_lr_ratio": ("float",), "exclude_layers": ("list",)}
"""Types of arguments whose default does not show them."""
_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")


@dataclass(frozen=True)
class Optimizer:
    """A class of `keras.optimizers` as its source text states it."""

    class_name: str
    arguments: source_text.Arguments
    defaults: Mapping[str, Any]


@cache
def optimizers() -> dict[str, Optimizer]:
    """Return Keras' optimizers by the name of the file that defines each, such as `adamw`."""
    known = {}
    for class_name, source in source_text.exported("optimizers").items():
        function = source_text.constructor(source, class_name)
        # Base classes and those that wrap other optimizers have no learning rate of their own.
        if function is not None and source_text.defaults(function).get("learning_rate") is not None:
            found = source_text.arguments(function) | _TYPES | OF_EVERY_OPTIMIZER
            defaults = source_text.defaults(function)
            arguments = {key: found[key] for key in defaults if key != "name"}
            known[source.stem] = Optimizer(class_name, arguments, defaults)
    return known | {name: known[other] for name, other in _ALSO.items() if other in known}


def check_optimizer(config: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing wrong with `make_optimizer(config)`."""
    arguments = {key: value for key, value in config.items() if key != "name"}
    name = config.get("name")
    if name is None:
        given = ", ".join(f"optimizer.{key}={value}" for key, value in arguments.items())
        return [f"optimizer: expected optimizer=NAME with {given}, such as optimizer=sgd."]
    if name not in optimizers():
        return [f"optimizer={name}: there is no optimizer of that name.{_nearest(str(name), optimizers())}"]
    known, defaults = optimizers()[name].arguments, optimizers()[name].defaults
    problems = []
    for key, value in arguments.items():
        if key not in known:
            problems.append(f"optimizer.{key}: {name} has no argument {key!r}.{_nearest(key, known)}")
        elif value is None and defaults[key] is not None:
            problems.append(f"optimizer.{key}: expected {key} to be {known[key][0]}. Received: {key}=null.")
        elif value is not None and (problem := source_text.mistyped(key, value, known[key])):
            problems.append(f"optimizer.{key}: {problem}.")
        elif problem := _out_of_range(key, value):
            problems.append(f"optimizer.{key}={value}: expected {problem}. Received: {value}.")
    clips = [key for key in _CLIPS if arguments.get(key) is not None]
    if len(clips) > 1:
        problems.append(f"optimizer: expected one way to clip gradients. Received: {' and '.join(clips)}.")
    return problems


def make_optimizer(config: Mapping[str, Any]) -> keras.optimizers.Optimizer:
    """Return a new optimizer: the class that `name` stands for, with the other keys as its arguments."""
    import keras

    arguments = {key: value for key, value in config.items() if key != "name"}
    return getattr(keras.optimizers, class_of(config))(**arguments)


def class_of(config: Mapping[str, Any]) -> str:
    """Return the name of the class in `keras.optimizers` that the config's `name` stands for."""
    return optimizers()[config["name"]].class_name


@cache
def losses() -> frozenset[str]:
    """Return the names that `keras.losses.get` takes: of functions, of classes, and short ones such as `mse`."""
    exported = source_text.exported("losses")
    root = source_text.keras_folder()
    short = _keys(root / "src" / "losses" / "__init__.py") if root is not None else set()
    return frozenset({name for name in exported if name != "Loss"} | short)


def check_loss(name: str) -> list[str]:
    """Return a sentence where Keras has no loss of this name."""
    if name in losses():
        return []
    near = did_you_mean(name, losses()) or " Write a loss of your own as module.function."
    return [f"loss={name}: there is no loss of that name in keras.losses.{near}"]


def _keys(source: Path) -> set[str]:
    """Return the words that the dictionaries in this file have as keys."""
    nodes = [node for node in ast.walk(source_text.parsed(source)) if isinstance(node, ast.Dict)]
    keys = [key for node in nodes for key in node.keys if isinstance(key, ast.Constant)]
    return {key.value for key in keys if isinstance(key.value, str)}


def _out_of_range(key: str, value: Any) -> str | None:
    """Return what was expected instead of this value, which Keras' constructors refuse; None: nothing."""
    if value is None or isinstance(value, bool):
        return None
    if key in ("momentum", "ema_momentum") and not 0 <= value <= 1:
        return "a number from 0 to 1"
    if key == "gradient_accumulation_steps" and value < 2:
        return "at least 2"
    if key == "ema_overwrite_frequency" and value < 1:
        return "at least 1"
    if key in (*_CLIPS, "loss_scale_factor") and not value > 0:
        return "more than 0"
    return None


def _nearest(name: str, valid: Mapping[str, Any]) -> str:
    return did_you_mean(name, valid) or f" Valid: {', '.join(sorted(valid))}."
