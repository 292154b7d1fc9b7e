"""Reads the arguments of functions and classes from source text, so that a grid can be checked without importing Keras.

Importing Keras takes seconds.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

Arguments = dict[str, tuple[str, ...]]
"""Argument -> the names of its types; () where the source names none."""


@cache
def keras_folder() -> Path | None:
    """Return the folder of the installed Keras; None without one."""
    spec = importlib.util.find_spec("keras")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


@cache
def parsed(source: Path) -> ast.Module:
    """Return the file's syntax tree."""
    return ast.parse(source.read_text(encoding="utf-8"))


@cache
def exported(package: str) -> dict[str, Path]:
    """Return the names that `keras.package` imports from files of Keras, each with its file."""
    root = keras_folder()
    if root is None:
        return {}
    names: dict[str, Path] = {}
    for line in parsed(root / package / "__init__.py").body:
        if isinstance(line, ast.ImportFrom) and line.module is not None:
            source = root.joinpath(*line.module.split(".")[1:]).with_suffix(".py")
            if source.is_file():
                names |= {alias.asname or alias.name: source for alias in line.names}
    return names


def functions(tree: ast.Module | ast.ClassDef) -> list[ast.FunctionDef]:
    """Return the functions of a module, or the methods of a class."""
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def constructor(source: Path, name: str) -> ast.FunctionDef | None:
    """Return the `__init__` that the class of this name in this file has of its own."""
    for node in parsed(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return next((method for method in functions(node) if method.name == "__init__"), None)
    return None


def defaults(function: ast.FunctionDef) -> dict[str, Any]:
    """Return each argument's default where it is a plain value, else None; `self` is left out."""
    given = function.args
    written = [None] * (len(given.args) - len(given.defaults)) + given.defaults + given.kw_defaults
    names = [argument.arg for argument in [*given.args, *given.kwonlyargs]]
    return {name: _value(node) for name, node in zip(names, written, strict=True) if name != "self"}


def arguments(function: ast.FunctionDef) -> Arguments:
    """Return each argument's types: those of its annotation, else that of a plain default."""
    annotations = {argument.arg: argument.annotation for argument in [*function.args.args, *function.args.kwonlyargs]}
    found: Arguments = {}
    for name, default in defaults(function).items():
        types: tuple[str, ...] = ()
        if (annotation := annotations[name]) is not None:
            types = tuple(ast.unparse(annotation).split(" | "))
        elif default is not None:
            types = (type(default).__name__,)
        found[name] = types
    return found


def mistyped(key: str, value: Any, types: tuple[str, ...]) -> str | None:
    """Return why the value is none of these types, as a clause; None: it is one, or none is known."""
    if types and not any(_is(value, kind) for kind in types):
        return f"expected {key} to be {' or '.join(types)}. Received: {key}={value!r}"
    return None


def _is(value: Any, kind: str) -> bool:
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return type(value).__name__ == kind


def _value(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
