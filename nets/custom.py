"""Nets from elsewhere: any importable callable that returns a keras.Model."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nets.errors import BadArguments, NetError, did_you_mean

if TYPE_CHECKING:
    import keras


OF_PYTHON = sys.stdlib_module_names
"""Modules of the standard library, which make no nets and have no losses."""


class BadTarget(NetError):  # noqa: N818 - reads as what it says
    """The target does not exist, is not callable, or does not return a keras.Model."""


def from_target(target: str, **args: Any) -> keras.Model:
    """Import `package.module.callable` and return the model that it makes of `args`. Raises BadTarget, BadArguments.

    Exceptions that the target raises while it is imported or called pass through.
    """
    import keras

    function = imported(target, **args)
    model = function(**args)
    if not isinstance(model, keras.Model):
        raise BadTarget(f"expected {target} to return a keras.Model. Received: {type(model).__name__}")
    return model


def imported(target: str, **args: Any) -> Callable[..., Any]:
    """Import `package.module.callable`, which takes `args`, and return it uncalled. Raises what `from_target` does."""
    function = _callable(target)
    _expect_arguments(target, function, args)
    return function


def loss(target: str) -> Callable[[Any, Any], Any]:
    """Import `package.module.loss`, a function of targets and outputs, and return it; of a class, an instance.

    Raises BadTarget, or BadArguments where it takes others.
    """
    function = _callable(target)
    if isinstance(function, type):
        _expect_arguments(target, function, {})
        function = function()
    try:
        inspect.signature(function).bind(None, None)
    except ValueError:  # some callables of C extensions have no signature
        pass
    except TypeError as error:
        raise BadArguments(f"expected {target} to take targets and outputs. Received: {error}") from None
    return function


def sources(target: str) -> list[Path]:
    """Return the source files of an imported target: those of its module and of the module that defines it."""
    function = _resolve(target)
    names = {".".join(target.split(".")[:depth]) for depth in range(1, target.count(".") + 1)} | {_home(function)}
    files = {getattr(sys.modules.get(name), "__file__", None) for name in names}
    return [Path(file) for file in sorted(filter(None, files))]


def takes(target: str, argument: str) -> bool:
    """Whether the target's signature names this argument. Raises BadTarget; the target is imported, not called."""
    try:
        return argument in inspect.signature(_resolve(target)).parameters
    except (TypeError, ValueError):  # not a callable, or one of a C extension without a signature
        return False


def check(target: str, args: Mapping[str, Any], folder: Path | None = None) -> list[str]:
    """Return what the source text shows to be wrong with `from_target(target, **args)`; nothing is imported or run.

    The user's own modules are in `folder`; None for the current one.
    """
    try:
        parts = _parts(target)
        _expect_one(parts[0], folder or Path())
        _expect_no_standard_library(target, parts[0])
        spec = _find(parts[0], None, "")
        depth = 1
        while depth < len(parts) and spec.submodule_search_locations is not None:
            try:
                spec = _find(parts[depth], spec, ".".join(parts[:depth]))
            except BadTarget:
                bound = _bound(spec)
                if spec.origin is None or bound is None or parts[depth] in bound:  # an attribute, or not a package
                    break
                raise
            depth += 1
        module = ".".join(parts[:depth])
        if depth == len(parts):
            raise BadTarget(f"expected {target} to be a callable. Received: a module")
        known = _bound(spec) or {}
        if known and parts[depth] not in known:
            raise BadTarget(f"{module} has no '{parts[depth]}'.{_nearest(parts[depth], known)}")
    except BadTarget as error:
        return [str(error)]
    function = known.get(parts[-1]) if depth == len(parts) - 1 else None
    if not isinstance(function, ast.FunctionDef) or function.args.kwarg or function.decorator_list:
        return []
    names = [argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]]
    return [f"{target} has no argument '{key}'.{_nearest(key, names)}" for key in args if key not in names]


def _callable(target: str) -> Callable[..., Any]:
    function = _resolve(target)
    if not callable(function):
        raise BadTarget(f"expected {target} to be a callable. Received: {type(function).__name__}")
    _expect_no_standard_library(target, _home(function))
    return function


def _parts(target: str) -> list[str]:
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise BadTarget(f"expected a dotted name, package.module.callable. Received: {target!r}")
    return parts


def _expect_no_standard_library(target: str, module: str) -> None:
    """Refuse `os.system` and the like before they run: a plan from elsewhere may name them, too."""
    if module.partition(".")[0] in OF_PYTHON:
        received = f"{target}, from the standard library's {module.partition('.')[0]}"
        raise BadTarget(f"expected a callable of your own or of an installed package. Received: {received}")


def _home(function: Any) -> str:
    """Return the module of a function or class, of the function behind a partial, or of another object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__module__", None) or type(function).__module__)


def _find(part: str, parent: ModuleSpec | None, package: str) -> ModuleSpec:
    """Find a module, or a submodule without importing its package. Raises BadTarget."""
    path = None if parent is None else list(parent.submodule_search_locations or ())
    if part in sys.builtin_module_names and parent is None:
        return ModuleSpec(part, None)
    spec = PathFinder.find_spec(part, path)  # its full name would need its packages imported
    if spec is None:
        where = f"{package} has no" if package else "There is no module"
        raise BadTarget(f"{where} '{part}'.{_nearest(part, _siblings(path))}")
    spec.name = f"{package}.{part}" if package else part
    return spec


def _expect_one(name: str, folder: Path) -> None:
    """Raise BadTarget where the folder has a module of the same name that is not the one imported."""
    spec = _find(name, None, "")
    origin = Path(spec.origin) if spec.has_location and spec.origin else None
    for path in (Path(f"{name}.py"), Path(name, "__init__.py")):
        local = folder / path
        if local.is_file() and not (origin is not None and origin.exists() and local.samefile(origin)):
            other = f"{origin}" if origin else "a part of Python"
            remedy = f"which is imported for '{name}': rename ./{path} to use it"
            raise BadTarget(f"expected a module name of its own. Received: ./{path} beside {other}, {remedy}")


_DYNAMIC = ("setattr", "globals", "vars", "exec", "__getattr__", "__dict__", "modules")
"""Names in a module that binds others dynamically, as TensorFlow does with `keras`."""


def _bound(spec: ModuleSpec) -> dict[str, ast.AST] | None:
    """Return the names that a module's source binds anywhere; None where it may bind others, too."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    names: dict[str, ast.AST] = {}
    for node in ast.walk(_parsed(spec)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.setdefault(node.name, node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0]: node for alias in node.names}
        elif (isinstance(node, ast.Name) and node.id in _DYNAMIC) or (
            isinstance(node, ast.Attribute) and node.attr in ("__dict__", "modules")
        ):
            return None
    return None if "*" in names or "__getattr__" in names else names


def _parsed(spec: ModuleSpec) -> ast.Module:
    try:
        return ast.parse(Path(spec.origin or "").read_bytes())
    except OSError as error:
        raise BadTarget(f"expected {spec.name} to be a module that can be read. Received: {error.strerror}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        words = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise BadTarget(f"expected {spec.name} to be Python. Received: {spec.origin}{place}: {words}") from error


def _resolve(target: str) -> Any:
    """Return the object: import as many parts as are modules, then take attributes."""
    parts = _parts(target)
    resolved = None
    for i, part in enumerate(parts):
        parent, name = ".".join(parts[:i]), ".".join(parts[: i + 1])
        if resolved is not None and hasattr(resolved, part):
            resolved = getattr(resolved, part)
            continue
        if resolved is not None and not hasattr(resolved, "__path__"):
            raise BadTarget(f"{parent} has no '{part}'.{_nearest(part, dir(resolved))}")
        try:
            resolved = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise  # the module exists, but not something that it imports
            valid = {*_siblings(getattr(resolved, "__path__", None)), *(dir(resolved) if parent else ())}
            where = f"{parent} has no" if parent else "There is no module"
            raise BadTarget(f"{where} '{part}'.{_nearest(part, valid)}") from None
    return resolved


def _expect_arguments(target: str, function: Any, args: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables of C extensions have no signature
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        unknown = [name for name in args if name not in signature.parameters]
        near = _nearest(unknown[0], signature.parameters) if unknown else ""
        raise BadArguments(f"{target}{signature}: {error}.{near} Received: {args}") from None


def _siblings(path: Iterable[str] | None) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(path)]


def _nearest(name: str, valid: Iterable[str]) -> str:
    return did_you_mean(name, (word for word in valid if not word.startswith("_")))
