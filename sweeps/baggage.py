"""What travels to the nodes of a cluster: this project's packages and conf, and the user's own modules.

The sources are copied into a folder of their own, so that nothing else goes along: no results, data, secrets, `.git`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from sweeps.errors import UsageError
from sweeps.forkserver import ROOT

OURS = ("conf", "hydra_plugins", "nets", "sweeps", "tracking")
_NEVER = {"build", "dist", "mlartifacts", "mlruns", "multirun", "node_modules", "outputs", "tests"}
"""Folders that are not taken for packages of the user's, even if they look like one."""
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "*.so", "mlflow.db*", *_NEVER)
LARGEST_MB = 100
"""Ray keeps what travels in its head's memory."""


def pack(folder: Path, cwd: Path, targets: Iterable[str] = ()) -> Path:
    """Copy what travels into `folder`, and give it.

    Of `cwd` these are its modules, its packages, and folders without `__init__.py` that `targets`, dotted names of the
    user's callables, begin with. Raises UsageError for more than 100 MB, and for what cannot be copied.
    """
    try:
        for name in OURS:
            _copy_tree(ROOT / name, folder / name)
        for path in _users(cwd, {target.partition(".")[0] for target in targets}):
            if path.name not in (*OURS, *(f"{name}.py" for name in OURS)):  # ours come first on the path here, too
                copy = shutil.copy2 if path.is_file() else _copy_tree
                copy(path, folder / path.name)
    except OSError as error:
        words = f"expected modules and packages in {cwd} that can be copied, to send to the cluster's nodes"
        raise UsageError([f"{words}. Received: {error}"]) from error
    size_mb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    if size_mb > LARGEST_MB:
        words = f"expected at most {LARGEST_MB} MB of modules and packages in {cwd} to send to the cluster's nodes"
        raise UsageError([f"{words}. Received: {size_mb:.0f} MB. Start the sweep in a folder with less."])
    return folder


def _users(cwd: Path, wanted: set[str]) -> Iterator[Path]:
    for path in sorted(cwd.iterdir()):
        package = path.is_dir() and path.name not in _NEVER and (path / "__init__.py").is_file()
        if _is_another_one(path.stem, cwd):
            continue  # on the nodes all of this comes first, before the standard library too
        if package or (path.is_file() and path.suffix == ".py") or (path.is_dir() and path.name in wanted):
            yield path


def _is_another_one(name: str, cwd: Path) -> bool:
    """Whether a module of this name that is imported is not the one in `cwd`."""
    if name in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(name)
    return spec is not None and spec.origin is not None and not Path(spec.origin).is_relative_to(cwd.resolve())


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=_LEFT_OUT)
