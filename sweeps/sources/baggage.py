"""What travels to the nodes of a cluster: this project's packages and conf, and the user's own modules.

The sources are copied into a folder of their own, so that nothing else goes along: no results, data, secrets, `.git`.
Nothing is copied before the sizes of everything are known.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from sweeps.errors import UsageError
from sweeps.process.project import ROOT

OURS = ("conf", "hydra_plugins", "nets", "sweeps", "tracking")
_NEVER = {"build", "dist", "mlartifacts", "mlruns", "multirun", "node_modules", "outputs", "tests"}
"""Folders that are never taken for a package of the user's, even if they look like one."""
_LEFT_OUT = ("__pycache__", ".*", "*.pyc", "*.so", "mlflow.db*", *_NEVER)
LARGEST_MB = 100
"""Ray keeps what travels in its head's memory."""
_MB = 2**20
_MOST_NAMED = 3


def pack(folder: Path, cwd: Path, targets: Iterable[str] = ()) -> Path:
    """Copy what travels into `folder`, and return that.

    From `cwd` travel its modules, its packages, and those folders without `__init__.py` that `targets`, dotted names
    of the user's callables, begin with. Raises UsageError for more than 100 MB, and for what cannot be copied.
    """
    try:
        users = [*_users(cwd, {target.partition(".")[0] for target in targets})]
        sources = [(ROOT / name, ROOT) for name in OURS] + [(path, cwd) for path in users]
        files: list[tuple[Path, Path]] = []
        sizes: Counter[str] = Counter()
        for source, above in sources:
            files += _measured(source, above, sizes)
        _expect_little(sizes, cwd)
        for file, target in files:
            _copy(file, folder / target)
    except OSError as error:
        expected = f"expected modules and packages in {cwd} that can be copied, to send to the cluster's nodes"
        raise UsageError([f"{expected}. Received: {error}"]) from error
    return folder


def _users(cwd: Path, wanted: set[str]) -> Iterator[Path]:
    for path in sorted(cwd.iterdir()):
        if path.name in (*OURS, *(f"{name}.py" for name in OURS)):
            continue  # ours come first on the path here as well
        package = path.is_dir() and path.name not in _NEVER and (path / "__init__.py").is_file()
        if not (package or (path.is_file() and path.suffix == ".py") or (path.is_dir() and path.name in wanted)):
            continue
        if not _is_another_one(path.stem, cwd):  # on the nodes it would come before the standard library as well
            yield path


def _is_another_one(name: str, cwd: Path) -> bool:
    """Return whether importing this name gives another module than the one in `cwd`."""
    if name in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(name)
    return spec is not None and spec.origin is not None and not Path(spec.origin).is_relative_to(cwd.resolve())


def _measured(source: Path, above: Path, sizes: Counter[str]) -> list[tuple[Path, Path]]:
    """Return the files of a module or package, each with its place below `above`, and add their sizes by folder.

    A package that is too large on its own is not read to its end.
    """
    files: list[tuple[Path, Path]] = []
    seen_mb = 0.0
    for file in _files(source) if source.is_dir() else [source]:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            continue  # pipes, sockets and devices hold no code
        if not os.access(file, os.R_OK, effective_ids=True):
            raise PermissionError(f"{file}, which this user may not read")
        place = file.relative_to(above)
        files.append((file, place))
        sizes[str(place.parent if len(place.parts) > 1 else place)] += status.st_size
        seen_mb += status.st_size / _MB
        if seen_mb > LARGEST_MB:
            break
    return files


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file below the folder that travels; a link to a folder that contains it is not followed."""

    def refuse(error: OSError) -> None:
        raise error

    containing: dict[str, set[tuple[int, int]]] = {}
    for place, inner, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(place)  # noqa: PTH116 - as os.walk has it
        known = containing.get(str(Path(place).parent), set())
        if (status.st_dev, status.st_ino) in known:
            inner.clear()
            continue
        containing[place] = known | {(status.st_dev, status.st_ino)}
        inner[:] = sorted(name for name in inner if _travels(name))
        yield from (Path(place, name) for name in sorted(names) if _travels(name))


def _travels(name: str) -> bool:
    return not any(fnmatch.fnmatch(name, pattern) for pattern in _LEFT_OUT)


def _expect_little(sizes: Counter[str], cwd: Path) -> None:
    """Raise UsageError with the largest folders if all of them together are too large."""
    if sum(sizes.values()) <= LARGEST_MB * _MB:
        return
    largest = [(name, size / _MB) for name, size in sizes.most_common(_MOST_NAMED) if size > 0.01 * sum(sizes.values())]
    listed = ", ".join(f"{name} ({'at least ' * (size > LARGEST_MB)}{size:.0f} MB)" for name, size in largest)
    expected = f"expected at most {LARGEST_MB} MB of modules and packages in {cwd} to send to the cluster's nodes"
    raise UsageError([f"{expected}. Received: more, most of it in {listed}. Start the sweep in a folder with less."])


def _copy(file: Path, target: Path) -> None:
    """Copy a file, unless it has been deleted meanwhile, as an editor's temporary files are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(file, target)
