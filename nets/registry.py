"""Finds nets by name, checks their arguments and builds them.

A net of this package is a public function in a file of `nets/architectures/` that is annotated `-> keras.Model` and can
be called without arguments. Names and arguments are read from the source text, so that a whole grid can be checked
without importing Keras, which takes seconds.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nets import source_text
from nets.errors import BadArguments, UnknownNet, did_you_mean

if TYPE_CHECKING:
    import keras

_FIXED = {
    *("include_top", "weights", "input_tensor", "input_shape", "classes", "classifier_activation", "pooling", "name"),
    "include_preprocessing",
}
"""Arguments of keras.applications' models that `build` sets; the caller sets others, e.g. MobileNet's alpha."""


@dataclass(frozen=True)
class Signature:
    """A net's function as its source text states it."""

    module: str
    arguments: Mapping[str, tuple[str, ...]]
    """Argument -> the names of its types; () where the source names none."""
    min_image_size: int = 1
    """The file's MIN_IMAGE_SIZE: below it some layer would have an empty output."""


def names() -> list[str]:
    """Return the nets of this package in alphabetical order."""
    return sorted(_ours())


def build(name: str, **args: Any) -> keras.Model:
    """Build the net with this name, from float images `[batch, size, size, 3]` to logits.

    `name` is one of `names()` or of a keras.applications model, e.g. `MobileNetV3Large`. An argument that is None takes
    the net's default. Raises UnknownNet or BadArguments (both ValueError).
    """
    signature = _signature(name)
    if problems := check(name, args):
        raise BadArguments(" ".join(problems))
    given = {key: value for key, value in args.items() if value is not None}
    if name in _ours():
        return getattr(importlib.import_module(signature.module), name)(**given)
    from nets.architectures import applications

    return applications.application(name, **given)


def check(name: str, args: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing wrong with `build(name, **args)`; nothing is built and Keras is not imported."""
    try:
        signature = _signature(name)
    except UnknownNet as error:
        return [str(error)]
    problems = []
    for key, value in args.items():
        if key not in signature.arguments:
            problems.append(f"{name} has no argument '{key}'.{_nearest(key, signature.arguments)}")
        elif value is not None and (problem := _wrong(key, value, signature)):
            problems.append(f"{name}: {problem}")
    return problems


def arguments(name: str) -> frozenset[str]:
    """Return the names of the arguments that the net takes. Raises UnknownNet."""
    return frozenset(_signature(name).arguments)


def _signature(name: str) -> Signature:
    for nets in (_ours(), _applications()):
        if name in nets:
            return nets[name]
    raise UnknownNet(f"No net is named '{name}'.{_nearest(name, [*names(), *_applications()])}")


def _nearest(name: str, valid: Collection[str]) -> str:
    listed = ", ".join(sorted(valid))
    return did_you_mean(name, valid) or (f" Expected one of: {listed}." if listed else "")


def _wrong(key: str, value: Any, signature: Signature) -> str | None:
    if problem := source_text.mistyped(key, value, signature.arguments[key]):
        return problem
    if key == "keep_prob" and not 0 < value <= 1:
        return f"expected 0 < keep_prob <= 1. Received: keep_prob={value}"
    least = {"num_classes": 1, "image_size": signature.min_image_size}.get(key)
    if least is not None and type(value) is int and value < least:
        return f"expected {key} of at least {least}. Received: {key}={value}"
    return None


@cache
def _ours() -> dict[str, Signature]:
    signatures = {}
    for path in sorted((Path(__file__).parent / "architectures").glob("[!_]*.py")):
        tree = source_text.parsed(path)
        for function in source_text.functions(tree):
            required = len(function.args.args) - len(function.args.defaults) + function.args.kw_defaults.count(None)
            returns = ast.unparse(function.returns) if function.returns else ""
            if returns == "keras.Model" and not required and not function.name.startswith("_"):
                module = f"nets.architectures.{path.stem}"
                signatures[function.name] = Signature(module, source_text.arguments(function), _min_image_size(tree))
    return signatures


@cache
def _applications() -> dict[str, Signature]:
    """Return keras.applications' models, read from the package's import lines and the functions behind them."""
    signatures = {}
    for name, source in source_text.exported("applications").items():
        functions = {function.name: function for function in source_text.functions(source_text.parsed(source))}
        if name in functions and not name.islower():
            theirs = source_text.arguments(functions[name])
            own = {key: types for key, types in theirs.items() if key not in _FIXED}
            ours: dict[str, tuple[str, ...]] = {"num_classes": ("int",), "image_size": ("int",)}
            signatures[name] = Signature(f"keras.src.applications.{source.stem}", ours | own)
    return signatures


def _min_image_size(tree: ast.Module) -> int:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MIN_IMAGE_SIZE":
            return int(ast.literal_eval(node.value))
    return 1
