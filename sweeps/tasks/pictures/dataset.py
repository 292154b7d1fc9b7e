"""Pictures and their classes, read from folders or a list and split in two. No picture is decoded here."""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.process import paths
from sweeps.tasks.pictures import folders, text_lines
from tracking.text.printable import printable

MOST_NAMED = 5
"""Names in one sentence about many."""
_LONGEST_NAME = 250
_MOST_LABELS_MB = 16
"""The 22,000 names of ImageNet take 1 MB."""
_MOST_LIST_MB = 2048
"""A list of ImageNet's 14 million pictures takes 500 MB."""


class DataError(ValueError):
    """Data that cannot be used; `problems` holds every reason as a sentence."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(" ".join(self.problems))


@dataclass(frozen=True)
class Example:
    """A picture file and the number of its class."""

    path: Path
    label: int
    place: str = field(default="", compare=False)
    """A phrase that says where it was listed; empty where its path shows that."""


@dataclass(frozen=True)
class Dataset:
    """Examples and the names of their classes; a class's number is its place among the names."""

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    held_out: frozenset[Path] | None = None
    """The pictures to validate with, where the data names them; None for a share of each class."""
    remarks: tuple[str, ...] = ()
    """Sentences about what else was found besides the examples."""

    @property
    def fingerprint(self) -> str:
        """A digest of files, sizes, labels and classes; the content of the files is not read."""
        lines = [f"{e.path} {_size(e.path)} {e.label}" for e in self.examples]
        text = "\n".join([*self.classes, *lines])
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def read(data: str, labels: str | None = None) -> Dataset:
    """Read the pictures of `data`: a folder with one folder per class, or a file with a line `path label` per picture.

    A list's paths are relative to the list; its labels are numbers from 0 or the names of classes. `labels` is a file
    with one class name per line, which then defines the classes. Raises DataError.
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
    """Read a file with one class name per line, the first for class 0. Raises DataError."""
    try:
        lines = text_lines.lines(path, _MOST_LABELS_MB)
    except (OSError, UnicodeError) as error:
        received = error.strerror if isinstance(error, OSError) else error
        expected = f"expected a file of class names, text in UTF-8 of at most {_MOST_LABELS_MB} MB"
        raise DataError([f"task.labels={path}: {expected}. Received: {received}."]) from error
    while lines and not lines[-1]:
        lines.pop()
    names = tuple(lines)
    if blank := [number for number, name in enumerate(names, start=1) if not name]:
        raise DataError(
            [f"task.labels={path}: expected a class name in every line. Received: none in line {blank[0]}."]
        )
    for number, name in enumerate(names, start=1):
        if problem := _name_problem(name):
            raise DataError([f"task.labels={path}, line {number}: {problem}"])
    return names


def _name_problem(name: str) -> str | None:
    """Return why a text cannot be the name of a class, which is printed and part of metrics and plots."""
    if len(name) > _LONGEST_NAME:
        return f"expected a class name of at most {_LONGEST_NAME} characters. Received: {len(name)} characters."
    if (shown := printable(name)) != name:
        return f"expected a class name of printable characters. Received: {shown}."
    return None


def split(dataset: Dataset, share: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return training and validation examples: as the data holds them out, else a share per class chosen by `seed`.

    The share is rounded, to at least one picture.
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


def _of_folders(folder: Path, names: tuple[str, ...] | None) -> Dataset:
    parts = folders.parts(folder)
    roots = [folder] if parts is None else [folder / parts.training, folder / parts.validation]
    there = folders.subfolders(roots[0])
    if not there:
        raise DataError(
            [f"task.data={folder}: expected one folder per class, or a list file. Received: no folder in it."]
        )
    classes = names or tuple(there)
    if bad := [f"task.data={folder}: {problem}" for name in classes if (problem := _name_problem(name))]:
        raise DataError(bad[:MOST_NAMED])
    if unknown := [name for name in there if name not in classes]:
        raise DataError([f"task.data={folder}: expected folders named in task.labels. Received: {listed(unknown)}."])
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
        remarks.append(f"left out: {folders.by_suffix(others)} that are not pictures, e.g. {others[0]}.")
    held_out = None if parts is None else frozenset(e.path for e in examples if e.path.is_relative_to(roots[1]))
    return Dataset(tuple(examples), classes, held_out, tuple(remarks))


def _of_list(path: Path, names: tuple[str, ...] | None) -> Dataset:
    problems: list[str] = []
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
            problems.append(f"{place}: expected `path label`. Received: {paths.shortened(repr(line))}.")
        elif (received := paths.kind(picture)) != "a file":
            where = ", where there is none" if received == "a path where there is none" else f", {received}"
            problems.append(f"{place}: expected a file. Received: {paths.shortened(str(picture), 500)}{where}.")
        elif problem := _name_problem(label):
            problems.append(f"{place}: {problem}")
        else:
            rows.append((picture, label, number))
    numbered = all(re.fullmatch("[+-]?[0-9]+", label) for _, label, _ in rows)
    if names is None and numbered:
        highest = max((int(label) for _, label, _ in rows), default=-1)
        # One stray label of a million is a mistake and does not make a million classes.
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
            expected = f"0 to {len(names) - 1}" if numbered else f"one of {listed(names)}"
            problems.append(f"{path}, line {number}: expected a label of {expected}. Received: {label}.")
    if problems:
        more = [f"{path}: {len(problems) - MOST_NAMED} more lines like these."] if len(problems) > MOST_NAMED else []
        raise DataError([*problems[:MOST_NAMED], *more])
    return Dataset(tuple(examples), names)


def _size(path: Path) -> int | None:
    """Return the file's size in bytes; None where it is gone or is a dangling link."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Return the first of the names, and how many more there are."""
    return between.join(names[:MOST_NAMED]) + (
        f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    )
