"""Nets from elsewhere: any importable callable that returns a keras.Model."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any

import keras

from nets.registry import BadArguments, NetError


class BadTarget(NetError):  # noqa: N818 - reads as what it says
    """The target is not there, is not callable, or does not return a keras.Model."""


def from_target(target: str, **args: Any) -> keras.Model:
    """Import `package.module.callable` and return the model that it makes of `args`. Raises BadTarget, BadArguments.

    An exception of the target's own, while it is imported or called, passes through.
    """
    function = _resolve(target)
    if not callable(function):
        raise BadTarget(f"expected {target} to be a callable. Received: {type(function).__name__}")
    _expect_arguments(target, function, args)
    model = function(**args)
    if not isinstance(model, keras.Model):
        raise BadTarget(f"expected {target} to return a keras.Model. Received: {type(model).__name__}")
    return model


def _resolve(target: str) -> Any:
    """The object: as many parts as are a module, then attributes."""
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise BadTarget(f"expected a dotted name, package.module.callable. Received: {target!r}")
    found = None
    for i, part in enumerate(parts):
        name = ".".join(parts[: i + 1])
        if found is not None and hasattr(found, part):
            found = getattr(found, part)
            continue
        if found is not None and not hasattr(found, "__path__"):
            raise BadTarget(f"{'.'.join(parts[:i])} has no '{part}'.{_nearest(part, dir(found))}")
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise  # the module is there; something that it imports is not
            siblings = (module.name for module in pkgutil.iter_modules(getattr(found, "__path__", None)))
            valid = {*siblings, *(dir(found) if found is not None else ())}
            where = f"{'.'.join(parts[:i])} has no" if found is not None else "There is no module"
            raise BadTarget(f"{where} '{part}'.{_nearest(part, valid)}") from None
    return found


def _expect_arguments(target: str, function: Any, args: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables of C extensions do not tell
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        unknown = [name for name in args if name not in signature.parameters]
        near = _nearest(unknown[0], signature.parameters) if unknown else ""
        raise BadArguments(f"{target}{signature}: {error}.{near} Received: {args}") from None


def _nearest(name: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [word for word in valid if not word.startswith("_")], n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""
