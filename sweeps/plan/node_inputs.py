"""What trials need on every node where they may run: files, pictures, and the user's own callables.

Each node is checked before anything runs. What a node lacks, and what differs between nodes so that their figures would
not be comparable, is reported for all nodes together.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nets.saved import kinds as saved_kinds
from sweeps.errors import SweepError
from sweeps.plan import targets
from sweeps.plan.targets import Target
from sweeps.process import paths
from sweeps.tasks.pictures import dataset, image_paths
from sweeps.tasks.pictures.dataset import DataError
from tracking.record import Trial

_MOST_NAMED = 3
_LISTING_S = 60.0
"""How long a node may take to list a folder before its content is no longer compared, seconds."""
_WHOLE_MB = 64
"""Files up to this size are compared as a whole, larger ones by evenly spread parts."""
_PARTS = 64
_PART = 2**20
_NOTHING = "a path where there is none"


@dataclass(frozen=True)
class Wanted:
    """What the trials of a sweep read and import."""

    files: tuple[str, ...] = ()
    """Weights, saved models, class names, and files that are arguments of a net."""
    data: tuple[tuple[str, str | None], ...] = ()
    """Each `task.data` with its `task.labels`."""
    images: tuple[str, ...] = ()
    """Each a file, a folder or a pattern."""
    targets: tuple[Target, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.files or self.data or self.images or self.targets)


@dataclass(frozen=True)
class Found:
    """What a node has of that, by path, or by setting of the target, such as `model._target_=my.net`."""

    missing: Mapping[str, str] = field(default_factory=dict)
    """A description of what is there instead."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """A digest of its content, where that could be computed."""
    imports: Mapping[str, str] = field(default_factory=dict)
    """Why a target cannot be imported."""


def of_trials(trials: Iterable[Trial], folder: Path) -> Wanted:
    """Return what these trials of a sweep that was started in `folder` need."""
    trials = list(trials)
    files: dict[str, None] = {}
    data: dict[tuple[str, str | None], None] = {}
    images: dict[str, None] = {}
    for trial in trials:
        files |= dict.fromkeys(path for path in (trial.weights, trial.path) if path)
        if isinstance(labels := trial.task_args.get("labels"), str):
            files[labels] = None
        if isinstance(place := trial.task_args.get("data"), str):
            data[place, labels] = None
        patterns = trial.task_args.get("images") or ()
        images |= dict.fromkeys([patterns] if isinstance(patterns, str) else patterns)
        files |= dict.fromkeys(_files_among(trial.model_args.values(), folder))
    return Wanted(tuple(files), tuple(data), tuple(images), tuple(targets.wanted(trials)))


def look(wanted: Wanted, server: Callable[[], str]) -> Found:
    """Return what this node has; `server()`, its fork server's address, is called only if there are targets."""
    missing: dict[str, str] = {}
    digests: dict[str, str] = {}
    for path in wanted.files:
        if saved_kinds.is_folder(path):
            digests[path] = _tree(Path(path))
        elif (received := paths.not_readable(path)) is not None:
            missing[path] = received
        else:
            digests[path] = _digest(Path(path))
    until = time.monotonic() + _LISTING_S
    for place, labels in wanted.data:
        if (received := _not_listable(place)) is not None:
            missing[place] = received
            continue
        try:
            data = dataset.read(place, None if labels in missing else labels)
        except DataError as error:
            missing[place] = f"pictures that cannot be read ({error.problems[0].rstrip('.')})"
        else:
            digests[place] = _listing(((each.path, data.classes[each.label]) for each in data.examples), until)
    for pattern in wanted.images:
        try:
            digests[pattern] = _listing(((path, "") for path in image_paths.matching(pattern)), until)
        except DataError:
            missing[pattern] = "a folder without pictures" if paths.is_folder(pattern) else paths.kind(pattern)
    imports: Mapping[str, str] = {}
    if wanted.targets:
        try:
            results = targets.look(wanted.targets, server())
        except SweepError as error:
            return Found(missing, digests, {target.setting: str(error) for target in wanted.targets})
        imports = results.problems
        digests |= results.digests
    return Found(missing, {key: digest for key, digest in digests.items() if digest}, imports)


def problems(nodes: Mapping[str, Found]) -> list[str]:
    """Return why trials cannot run on these nodes, one sentence for all nodes that lack the same thing."""
    sentences: list[str] = []
    for path in dict.fromkeys(path for node in nodes.values() for path in node.missing):
        lacking = {name: node.missing[path] for name, node in nodes.items() if path in node.missing}
        nothing = [name for name, received in lacking.items() if received == _NOTHING]
        if nothing:
            sentences.append(f"{path}: expected on every node. Missing on: {_names(nothing, nodes)}.")
        for received, names in _grouped({name: kind for name, kind in lacking.items() if kind != _NOTHING}).items():
            sentences.append(f"{path}: expected on every node. Received: {received} on {_names(names, nodes)}.")
    for setting in dict.fromkeys(setting for node in nodes.values() for setting in node.imports):
        why = {name: node.imports[setting] for name, node in nodes.items() if setting in node.imports}
        for words, names in _grouped(why).items():
            sentences.append(targets.sentence(setting, f"{words}{_advice(words)}", f"on {_names(names, nodes)}"))
    return sentences + _differences(nodes)


def of_late_joiner(name: str, late: Found, others: Mapping[str, Found]) -> list[str]:
    """Return why a node that joins later gets no trials of a sweep that the others, by name, have begun."""
    sentences = problems({name: late})
    other = next(iter(others.items()), None)
    return sentences if other is None else sentences + _differences({other[0]: other[1], name: late})


def _differences(nodes: Mapping[str, Found]) -> list[str]:
    sentences = []
    for key in dict.fromkeys(key for node in nodes.values() for key in node.digests):
        groups = _grouped({name: node.digests[key] for name, node in nodes.items() if key in node.digests})
        if len(groups) > 1:
            sides = " differs from that on ".join(_names(names, nodes, every=False) for names in groups.values())
            what = "file" if key.startswith("/") else "module"
            sentences.append(f"{key}: expected the same {what} on every node. Received: that on {sides}.")
    return sentences


def _advice(words: str) -> str:
    """Return the next step, as a clause, for a module that is not on a node; empty for other problems."""
    if not words.startswith("There is no module") and "No module named" not in words:
        return ""
    return "; modules in the folder where the sweep is started travel, others have to be installed on the nodes"


def _names(names: Sequence[str], nodes: Mapping[str, Found], *, every: bool = True) -> str:
    if every and len(names) == len(nodes) > _MOST_NAMED:
        return f"all {len(names)} nodes"
    more = f" (and {len(names) - _MOST_NAMED} more)" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _grouped(by_node: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, words in by_node.items():
        groups.setdefault(words, []).append(name)
    return groups


def _files_among(values: Iterable[Any], folder: Path) -> Iterable[str]:
    """Yield the arguments of a net that look like paths and are files here, as seen from the folder."""
    for value in values:
        if isinstance(value, str) and ("/" in value or "." in value) and paths.is_file(path := folder / value):
            yield str(path)


def _not_listable(path: str) -> str | None:
    """Return what is there instead of a readable folder or list; None if there is one."""
    if paths.is_folder(path):
        return (
            None if os.access(path, os.R_OK | os.X_OK, effective_ids=True) else "a folder that this user may not read"
        )
    return paths.not_readable(path)


def _digest(path: Path) -> str:
    """Return a digest of a file's size and of its content, or of parts of it; empty if it cannot be read."""
    try:
        size = path.stat().st_size
        parts = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            if size <= _WHOLE_MB * 2**20:
                parts.update(file.read())
            else:
                for number in range(_PARTS + 1):
                    file.seek((size - _PART) * number // _PARTS)
                    parts.update(file.read(_PART))
    except OSError:
        return ""
    return parts.hexdigest()[:16]


def _tree(folder: Path) -> str:
    """Return a digest of the folder's files, their names and content; empty if one cannot be read."""
    parts = hashlib.sha256()
    try:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if not (digest := _digest(file)):
                return ""
            parts.update(f"{file.relative_to(folder)} {digest}\n".encode(errors="surrogatepass"))
    except OSError:
        return ""
    return parts.hexdigest()[:16]


def _listing(lines: Iterable[tuple[Path, str]], until: float) -> str:
    """Return a digest of files, their sizes and these words about each; empty if it takes past `until`."""
    digest = hashlib.sha256()
    for path, words in lines:
        if time.monotonic() > until:
            return ""
        try:
            size = path.stat().st_size
        except OSError:
            size = -1
        digest.update(f"{path} {size} {words}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]
