"""Which pictures are meant, and which is of which class: read, checked and split. No picture is decoded here."""

from __future__ import annotations

import glob
import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from sweeps.machine import cores
from sweeps.process import paths
from sweeps.tasks.picture_classifier import pictures
from sweeps.tasks.pictures import copies, folders, text_lines
from tracking.text.printable import printable

_MOST_NAMED = 5
_LONGEST_NAME = 250
_LONGEST_PATTERN = 4096
_MOST_LABELS_MB = 16
"""The 22,000 names of ImageNet have 1 MB."""
_MOST_LIST_MB = 2048
"""A list of ImageNet's 14 million pictures has 500 MB."""


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
    place: str = field(default="", compare=False)
    """Where it was listed, in words; empty: its path says it."""


@dataclass(frozen=True)
class Dataset:
    """Examples and the names of their classes; a class's number is its place among the names."""

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    held_out: frozenset[Path] | None = None
    """The pictures to validate with, where the data says which; None: a share of each class."""
    remarks: tuple[str, ...] = ()
    """What there is beside the examples, a sentence each."""

    @property
    def fingerprint(self) -> str:
        """Tells other files, sizes, labels and classes from these; what is inside a file is not looked at."""
        listed = [f"{e.path} {_size(e.path)} {e.label}" for e in self.examples]
        text = "\n".join([*self.classes, *listed])
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def read(data: str, labels: str | None = None) -> Dataset:
    """The pictures under `data`: a folder with a folder a class, or a file with a line `path label` a picture.

    A list's paths are relative to the list; its labels are numbers from 0 or the names of classes. `labels` is a file
    with the name of a class a line, which then says what classes there are. Raises DataError.
    """
    names = None if labels is None else class_names(labels)
    path = Path(data)
    try:
        if paths.is_folder(path):
            return _of_folders(path, names)
        if (received := paths.not_readable(path)) is None:
            return _of_list(path, names)
    except OSError as error:
        received = f"{error.filename} ({error.strerror})"
    except folders.LayoutError as error:
        raise DataError([f"task.data={data}: {error}."]) from error
    raise DataError([f"task.data={data}: expected a folder or a list file. Received: {received}."])


def class_names(path: str) -> tuple[str, ...]:
    """The lines of a file, the first of which names class 0. Raises DataError."""
    try:
        lines = text_lines.lines(path, _MOST_LABELS_MB)
    except (OSError, UnicodeError) as error:
        received = error.strerror if isinstance(error, OSError) else error
        words = f"expected a file of class names, text in UTF-8 of at most {_MOST_LABELS_MB} MB"
        raise DataError([f"task.labels={path}: {words}. Received: {received}."]) from error
    while lines and not lines[-1]:
        lines.pop()
    names = tuple(lines)
    if blank := [number for number, name in enumerate(names, start=1) if not name]:
        raise DataError(
            [f"task.labels={path}: expected a class name in every line. Received: none in line {blank[0]}."]
        )
    for number, name in enumerate(names, start=1):
        if problem := _no_name(name):
            raise DataError([f"task.labels={path}, line {number}: {problem}"])
    return names


def _no_name(name: str) -> str | None:
    """Why a text cannot be the name of a class: it is printed, and a metric's and a plot's."""
    if len(name) > _LONGEST_NAME:
        return f"expected a class name of at most {_LONGEST_NAME} characters. Received: {len(name)} characters."
    if (shown := printable(name)) != name:
        return f"expected a class name of printable characters. Received: {shown}."
    return None


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
        found.append(unreadable_sentence(data, unreadable))
    left = replace(dataset, examples=tuple(e for e in dataset.examples if e.path not in unreadable))
    try:
        found += copy_problems(data, left.examples)
    except OSError as error:  # it has gone meanwhile
        words = "expected pictures that stay where they are"
        found.append(f"task.data={data}: {words}. Received: {error.filename} ({error.strerror}).")
    return (*found, *split_problems(data, left, validation))


def unreadable_sentence(data: str, reasons: Mapping[Path, str]) -> str:
    """That these pictures cannot be used: how many, why the first of them, and how many of each suffix."""
    listed = list(reasons.values())
    more = f", and {len(listed) - _MOST_NAMED} more ({folders.by_suffix(reasons)})" if len(listed) > _MOST_NAMED else ""
    pictures_ = f"{len(listed)} picture{'s' * (len(listed) != 1)}"
    return (
        f"task.data={data}: {pictures_} cannot be used; task.unreadable=skip leaves such out: "
        f"{'; '.join(listed[:_MOST_NAMED])}{more}."
    )


def copy_problems(data: str, examples: Sequence[Example]) -> list[str]:
    """Pictures that are there twice, under whatever names; these may not be in two classes, nor in both parts."""
    repeated = copies.pairs([(example.place or str(example.path), example.path) for example in examples])
    if not repeated:
        return []
    return [f"task.data={data}: expected each picture once. Received: {_listed(repeated, '; ')}."]


def split_problems(data: str, dataset: Dataset, validation: float) -> list[str]:
    """Classes that are too few, or too small to be trained on and validated with."""
    counts = Counter(example.label for example in dataset.examples)
    found = []
    if len(dataset.classes) < 2:
        found.append(f"task.data={data}: expected at least 2 classes. Received: {_listed(dataset.classes) or 'none'}.")
    empty = [name for label, name in enumerate(dataset.classes) if not counts[label]]
    if empty:
        found.append(f"task.data={data}: expected pictures in every class. Received: none of {_listed(empty)}.")
    if dataset.held_out is not None:
        there = [name for label, name in enumerate(dataset.classes) if counts[label]]
        parts = zip(("train on", "validate with"), split(dataset, validation, 0), strict=True)
        return found + [
            f"task.data={data}: expected pictures of every class to {purpose}. Received: none of {_listed(lacking)}."
            for purpose, examples in parts
            if (lacking := sorted(set(there) - {dataset.classes[example.label] for example in examples}))
        ]
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
    """Training and validation examples: those that the data holds out, else a share of each class chosen by `seed`.

    The share is rounded, and at least one.
    """
    if dataset.held_out is not None:
        return (
            tuple(example for example in dataset.examples if example.path not in dataset.held_out),
            tuple(example for example in dataset.examples if example.path in dataset.held_out),
        )
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
        received = paths.kind(path)
        try:
            if received == "a folder":
                matched = folders.below(path).pictures
            elif received == "a file":
                matched = [path]
            else:
                matched = _globbed(pattern)
        except folders.LayoutError as error:
            missing.append(f"task.images={pattern}: {error}.")
            continue
        if not matched and received == "a folder":
            missing.append(f"task.images={pattern}: expected pictures in this folder. Received: nothing there.")
        elif not matched:
            words = "expected a file, a folder or a pattern that matches files"
            received = "nothing there" if received == "a path where there is none" else received
            missing.append(f"task.images={paths.shortened(pattern)}: {words}. Received: {received}.")
        found += matched
    if missing or not found:
        raise DataError(missing or ["task.images: expected a file, a folder or a pattern. Received: none."])
    return list(dict.fromkeys(found))


def _globbed(pattern: str) -> list[Path]:
    """The files that a pattern matches. `**` visits each folder once: links may lead round for ever."""
    if "\0" in pattern or len(pattern) > _LONGEST_PATTERN:
        return []
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    start, deep, rest = pattern.partition("**/")
    if not deep or (start and not start.endswith("/")):
        names = glob.glob(pattern)  # noqa: PTH207 - a Path knows no absolute patterns
        return sorted(path for name in names if paths.is_file(path := Path(name)))
    rest = rest.replace("**/", "")  # once below everywhere is everywhere
    below = [root for name in glob.glob(start or ".") if paths.is_folder(root := Path(name))]  # noqa: PTH207
    places = [place for root in below for place, _ in folders.walk(root)]
    return sorted({path for place in places for path in _globbed(f"{glob.escape(str(place))}/{rest}")})


def beside(images: str | Sequence[str]) -> list[Path]:
    """The files in the folders of `task.images` that are no pictures by their names."""
    given = [Path(pattern) for pattern in ([images] if isinstance(images, str) else images)]
    return [path for folder in given if paths.is_folder(folder) for path in folders.below(folder).others]


def _of_folders(folder: Path, names: tuple[str, ...] | None) -> Dataset:
    parts = folders.parts(folder)
    roots = [folder] if parts is None else [folder / parts.training, folder / parts.validation]
    there = folders.subfolders(roots[0])
    if not there:
        raise DataError([f"task.data={folder}: expected a folder a class, or a list file. Received: no folder in it."])
    classes = names or tuple(there)
    if bad := [f"task.data={folder}: {problem}" for name in classes if (problem := _no_name(name))]:
        raise DataError(bad[:_MOST_NAMED])
    if unknown := [name for name in there if name not in classes]:
        raise DataError([f"task.data={folder}: expected folders named in task.labels. Received: {_listed(unknown)}."])
    files = {(root, name): folders.below(root / name) for root in roots for name in classes if name in there}
    examples = [Example(path, classes.index(name)) for (_, name), inside in files.items() for path in inside.pictures]
    beside = [folders.directly_in(place) for place in dict.fromkeys([folder, *roots])]
    remarks = []
    if parts is not None:
        remarks.append(
            f"{roots[0]} is trained on and {roots[1]} validated with; task.validation and the seed choose nothing."
        )
        remarks += [f"left out: {folder / name}." for name in parts.left_out]
    if stray := [path for inside in beside for path in inside.pictures]:
        remarks.append(f"left out: {folders.by_suffix(stray)} in no class's folder, e.g. {stray[0]}.")
    if others := [path for inside in [*files.values(), *beside] for path in inside.others]:
        remarks.append(f"left out: {folders.by_suffix(others)} that are no pictures, e.g. {others[0]}.")
    held_out = None if parts is None else frozenset(e.path for e in examples if e.path.is_relative_to(roots[1]))
    return Dataset(tuple(examples), classes, held_out, tuple(remarks))


def _of_list(path: Path, names: tuple[str, ...] | None) -> Dataset:
    found: list[str] = []
    rows: list[tuple[Path, str, int]] = []
    try:
        lines = text_lines.lines(path, _MOST_LIST_MB)
    except UnicodeError as error:
        raise DataError([f"task.data={path}: expected a list as text in UTF-8. Received: {error}."]) from error
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        file, label = text_lines.path_and_label(line, lambda name: paths.is_file(path.parent / name))
        picture = path.parent / file
        place = f"{path}, line {number}"
        if not file or not label:
            found.append(f"{place}: expected `path label`. Received: {paths.shortened(repr(line))}.")
        elif (received := paths.kind(picture)) != "a file":
            where = ", where there is none" if received == "a path where there is none" else f", {received}"
            found.append(f"{place}: expected a file. Received: {paths.shortened(str(picture), 500)}{where}.")
        elif problem := _no_name(label):
            found.append(f"{place}: {problem}")
        else:
            rows.append((picture, label, number))
    numbered = all(re.fullmatch("[+-]?[0-9]+", label) for _, label, _ in rows)
    if names is None and numbered:
        highest = max((int(label) for _, label, _ in rows), default=-1)
        # A stray label of a million is a mistake, not a million classes.
        names = tuple(str(label) for label in range(min(highest + 1, len(rows) + 1)))
    elif names is None:
        names = tuple(sorted({label for _, label, _ in rows}))
    numbers = {name: number for number, name in reversed(list(enumerate(names)))}
    examples = []
    for picture, label, number in rows:
        place = f"line {number} ({picture})"
        value = int(label) if numbered else numbers.get(label, -1)
        if 0 <= value < len(names):
            examples.append(Example(picture, value, place))
        else:
            expected = f"0 to {len(names) - 1}" if numbered else f"one of {_listed(names)}"
            found.append(f"{path}, line {number}: expected a label of {expected}. Received: {label}.")
    if found:
        more = [f"{path}: {len(found) - _MOST_NAMED} more lines like these."] if len(found) > _MOST_NAMED else []
        raise DataError([*found[:_MOST_NAMED], *more])
    return Dataset(tuple(examples), names)


def _unreadable(files: Iterable[Path]) -> Iterable[tuple[Path, str]]:
    files = list(files)
    with ThreadPoolExecutor(len(cores.available())) as pool:
        return [(path, why) for path, why in zip(files, pool.map(pictures.check, files), strict=True) if why]


def _size(path: Path) -> int | None:
    """None where the file has gone, or never was: a link to nothing."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _listed(names: Sequence[str], between: str = ", ") -> str:
    return between.join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )
