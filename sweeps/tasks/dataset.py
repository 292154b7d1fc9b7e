"""Which pictures are meant, and which is of which class: read, checked and split. No picture is decoded here."""

from __future__ import annotations

import glob
import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sweeps import cores
from sweeps.picture_classifier import pictures

_MOST_NAMED = 5


class DataError(ValueError):
    """Data that cannot be trained on; `problems` holds every reason, a sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(" ".join(self.problems))


@dataclass(frozen=True)
class Example:
    """A picture file and the number of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """Examples and the names of their classes; a class's number is its place among the names."""

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    repeats: tuple[str, ...] = ()
    """Where a file is there once more, in words: training and validation must not share a picture."""

    @property
    def fingerprint(self) -> str:
        """Tells other files, sizes, labels and classes from these; what is inside a file is not looked at."""
        listed = [f"{e.path} {e.path.stat().st_size} {e.label}" for e in self.examples]
        return hashlib.sha256("\n".join([*self.classes, *listed]).encode()).hexdigest()[:16]


def read(data: str, labels: str | None = None) -> Dataset:
    """The pictures under `data`: a folder with a folder a class, or a file with a line `path label` a picture.

    A list's paths are relative to the list; its labels are numbers from 0 or the names of classes. `labels` is a file
    with the name of a class a line, which then says what classes there are. Raises DataError.
    """
    names = None if labels is None else class_names(labels)
    path = Path(data)
    if path.is_dir():
        return _of_folders(path, names)
    if path.is_file():
        return _of_list(path, names)
    raise DataError([f"task.data={data}: expected a folder or a list file. Received: a path where there is none."])


def class_names(path: str) -> tuple[str, ...]:
    """The lines of a file, the first of which names class 0. Raises DataError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError([f"task.labels={path}: expected a file of class names. Received: {error.strerror}."]) from error
    except UnicodeDecodeError as error:
        raise DataError([f"task.labels={path}: expected text in UTF-8. Received: {error}."]) from error
    while lines and not lines[-1].strip():
        lines.pop()
    names = tuple(line.strip() for line in lines)
    if blank := [number for number, name in enumerate(names, start=1) if not name]:
        raise DataError(
            [f"task.labels={path}: expected a class name in every line. Received: none in line {blank[0]}."]
        )
    return names


@cache
def problems(data: str, labels: str | None, validation: float, skip_unreadable: bool) -> tuple[str, ...]:
    """Why the data cannot be trained on, as far as it can be told without decoding a picture; a sentence each."""
    try:
        dataset = read(data, labels)
    except DataError as error:
        return tuple(error.problems)
    found = []
    unreadable = dict(_unreadable(example.path for example in dataset.examples))
    if unreadable and not skip_unreadable:
        found.append(unreadable_sentence(data, list(unreadable.values())))
    left = replace(dataset, examples=tuple(e for e in dataset.examples if e.path not in unreadable))
    return (*found, *split_problems(data, left, validation))


def unreadable_sentence(data: str, reasons: Sequence[str]) -> str:
    more = f", and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    pictures_ = f"{len(reasons)} picture{'s' * (len(reasons) != 1)}"
    return (
        f"task.data={data}: {pictures_} cannot be used; task.unreadable=skip leaves such out: "
        f"{'; '.join(reasons[:_MOST_NAMED])}{more}."
    )


def split_problems(data: str, dataset: Dataset, validation: float) -> list[str]:
    """Files that are there twice; classes that are too few, or too small to be trained on and validated with."""
    counts = Counter(example.label for example in dataset.examples)
    found = []
    if dataset.repeats:
        found.append(f"task.data={data}: expected each picture once. Received: {_listed(dataset.repeats, '; ')}.")
    if len(dataset.classes) < 2:
        found.append(f"task.data={data}: expected at least 2 classes. Received: {_listed(dataset.classes) or 'none'}.")
    empty = [name for label, name in enumerate(dataset.classes) if not counts[label]]
    if empty:
        found.append(f"task.data={data}: expected pictures in every class. Received: none of {_listed(empty)}.")
    least = 2 if validation else 1
    small = [name for label, name in enumerate(dataset.classes) if 0 < counts[label] < least]
    if small:
        found.append(
            f"task.data={data}: expected at least {least} pictures a class, one of them for validation. "
            f"Received: 1 of {_listed(small)}."
        )
    return found


def part_problems(data: str, purpose: str, examples: Iterable[Example], classes: Sequence[str]) -> list[str]:
    """Classes of which no picture is left in a part, that to `purpose` ("train on", "validate with")."""
    there = {example.label for example in examples}
    empty = [name for label, name in enumerate(classes) if label not in there]
    if not empty:
        return []
    return [
        f"task.data={data}: expected pictures of every class to {purpose}, without those that cannot be read. "
        f"Received: none of {_listed(empty)}."
    ]


def split(dataset: Dataset, share: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training and validation examples: of each class this share, rounded and at least one, chosen by `seed`."""
    by_class: Mapping[int, list[Example]] = defaultdict(list)
    for example in dataset.examples:
        by_class[example.label].append(example)
    generator = random.Random(seed)
    held_out: set[Example] = set()
    for label in sorted(by_class):
        members = by_class[label]
        count = min(len(members) - 1, max(1, round(share * len(members))))
        held_out.update(generator.sample(members, count))
    training = tuple(example for example in dataset.examples if example not in held_out)
    return training, tuple(example for example in dataset.examples if example in held_out)


def matching(images: str | Sequence[str]) -> list[Path]:
    """The files that `task.images` means: files, folders and globs. Raises DataError for what matches nothing."""
    found: list[Path] = []
    missing = []
    for pattern in [images] if isinstance(images, str) else images:
        path = Path(pattern)
        if path.is_dir():
            matched = in_folder(path)
        elif path.is_file():
            matched = [path]
        else:
            names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - a Path knows no absolute patterns
            matched = sorted(Path(name) for name in names if Path(name).is_file())
        if not matched:
            what = "pictures in this folder" if path.is_dir() else "a file, a folder or a pattern that matches files"
            missing.append(f"task.images={pattern}: expected {what}. Received: nothing there.")
        found += matched
    if missing or not found:
        raise DataError(missing or ["task.images: expected a file, a folder or a pattern. Received: none."])
    return list(dict.fromkeys(found))


def in_folder(folder: Path) -> list[Path]:
    """Every picture file below the folder, in alphabetical order; hidden ones are not looked at."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name)
            for name in sorted(names)
            if name.lower().endswith(pictures.SUFFIXES) and not name.startswith(".")
        ]
    return found


def _of_folders(folder: Path, names: tuple[str, ...] | None) -> Dataset:
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not there:
        raise DataError([f"task.data={folder}: expected a folder a class, or a list file. Received: no folder in it."])
    classes = names or tuple(there)
    if unknown := [name for name in there if name not in classes]:
        raise DataError([f"task.data={folder}: expected folders named in task.labels. Received: {_listed(unknown)}."])
    examples = [
        Example(path, label) for label, name in enumerate(classes) if name in there for path in in_folder(folder / name)
    ]
    return Dataset(tuple(examples), classes, _repeats((str(example.path), example.path) for example in examples))


def _of_list(path: Path, names: tuple[str, ...] | None) -> Dataset:
    found: list[str] = []
    rows: list[tuple[Path, str, int]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError([f"task.data={path}: expected a list as text in UTF-8. Received: {error}."]) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        file, _, label = line.strip().rpartition(" ")
        picture = path.parent / file.strip()
        if not file:
            found.append(f"{path}, line {number}: expected `path label`. Received: {line.strip()!r}.")
        elif not picture.is_file():
            found.append(f"{path}, line {number}: expected a file. Received: {picture}, where there is none.")
        else:
            rows.append((picture, label, number))
    numbered = all(label.lstrip("+-").isdigit() for _, label, _ in rows)
    if names is None and numbered:
        highest = max((int(label) for _, label, _ in rows), default=-1)
        # A stray label of a million is a mistake, not a million classes.
        names = tuple(str(label) for label in range(min(highest + 1, len(rows) + 1)))
    elif names is None:
        names = tuple(sorted({label for _, label, _ in rows}))
    examples = []
    for picture, label, number in rows:
        value = int(label) if numbered else names.index(label) if label in names else -1
        if 0 <= value < len(names):
            examples.append(Example(picture, value))
        else:
            expected = f"0 to {len(names) - 1}" if numbered else f"one of {_listed(names)}"
            found.append(f"{path}, line {number}: expected a label of {expected}. Received: {label}.")
    if found:
        more = [f"{path}: {len(found) - _MOST_NAMED} more lines like these."] if len(found) > _MOST_NAMED else []
        raise DataError([*found[:_MOST_NAMED], *more])
    return Dataset(
        tuple(examples), names, _repeats((f"line {number} ({picture})", picture) for picture, _, number in rows)
    )


def _repeats(places: Iterable[tuple[str, Path]]) -> tuple[str, ...]:
    """Pairs of the given places that hold one file, whatever it is called."""
    first: dict[str, str] = {}
    pairs = ((first.setdefault(os.path.realpath(path), place), place) for place, path in places)
    return tuple(f"{before} and {place} are one file" for before, place in pairs if before != place)


def _unreadable(paths: Iterable[Path]) -> Iterable[tuple[Path, str]]:
    paths = list(paths)
    with ThreadPoolExecutor(len(cores.available())) as pool:
        return [(path, why) for path, why in zip(paths, pool.map(pictures.check, paths), strict=True) if why]


def _listed(names: Sequence[str], between: str = ", ") -> str:
    return between.join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )
