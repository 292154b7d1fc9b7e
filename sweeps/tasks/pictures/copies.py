"""Finds pictures that occur more than once in a data set: neither the two parts nor two classes may share one."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_END = 2**14
"""Bytes at both ends of a file, which distinguish most pictures of one size."""


def pairs(files: Sequence[tuple[str, Path]]) -> list[str]:
    """Return a clause for each file, given by display name and path, that repeats another file or its content."""
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        stats = dict(zip((path for _, path in files), pool.map(os.stat, (path for _, path in files)), strict=True))
        inodes = {path: (stat.st_dev, stat.st_ino) for path, stat in stats.items()}
        first: dict[tuple[int, int], str] = {}
        repeated = []
        unique: list[tuple[str, Path]] = []
        for name, path in files:
            if inodes[path] in first:
                repeated.append(f"{first[inodes[path]]} and {name} are one file")
            else:
                first[inodes[path]] = name
                unique.append((name, path))
        alike = _grouped([unique], lambda paths: [stats[path].st_size for path in paths])
        alike = _grouped(alike, lambda paths: pool.map(_ends, paths))
        alike = _grouped(alike, lambda paths: pool.map(_digest, paths))
    for group in alike:
        repeated += [f"{group[0][0]} and {name} have the same content" for name, _ in group[1:]]
    return repeated


def lookalikes(training: Mapping[Path, bytes], held_out: Mapping[Path, bytes]) -> str | None:
    """Return a warning where pictures to validate with look like some to train on, by the digests of decoded ones."""
    known = {digest: path for path, digest in training.items()}
    alike = [(path, known[digest]) for path, digest in held_out.items() if digest in known]
    if not alike:
        return None
    return (
        f"warning: {len(alike)} of {len(held_out)} pictures to validate with look the same at the net's size as one to "
        f"train on, e.g. {alike[0][0]} and {alike[0][1]}: the validation accuracy is too good"
    )


def contradictions(looks: Mapping[Path, bytes], labels: Mapping[Path, int]) -> str | None:
    """Return a warning where pictures of different classes look the same, by the digests of decoded ones."""
    first: dict[bytes, Path] = {}
    for path, digest in looks.items():
        first.setdefault(digest, path)
    unlike = [(path, first[digest]) for path, digest in looks.items() if labels[path] != labels[first[digest]]]
    if not unlike:
        return None
    return (
        f"warning: {len(unlike)} of {len(looks)} pictures look the same at the net's size as one of another class, "
        f"e.g. {unlike[0][1]} and {unlike[0][0]}"
    )


def _grouped(
    groups: Sequence[Sequence[tuple[str, Path]]], keys: Callable[[list[Path]], Iterable[Hashable]]
) -> list[list[tuple[str, Path]]]:
    """Split each group by a key of its members; drop parts with one member."""
    members = [(place, *file) for place, group in enumerate(groups) for file in group]
    parted: defaultdict[Hashable, list[tuple[str, Path]]] = defaultdict(list)
    for (place, name, path), key in zip(members, keys([path for _, _, path in members]), strict=True):
        parted[place, key].append((name, path))
    return [part for part in parted.values() if len(part) > 1]


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(_END)
        file.seek(max(0, path.stat().st_size - _END))
        return hashlib.blake2b(head + file.read(), digest_size=16).digest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
