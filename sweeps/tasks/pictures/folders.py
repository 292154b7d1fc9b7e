"""Folders of pictures: the files in them, and whether a folder is split into `train/` and `val/`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from sweeps.process import paths
from sweeps.tasks.picture_classifier import pictures

_TRAINING = ("train", "training")
_VALIDATION = ("val", "valid", "validation", "dev", "eval", "evaluation")
_TEST = ("test", "testing")
_ROLES = {
    word: role
    for role, words in (("training", _TRAINING), ("validation", _VALIDATION), ("test", _TEST))
    for word in words
}
_FILLERS = {"set", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "photos", "folder"}
"""Words beside those that say nothing about a folder's content."""


class LayoutError(ValueError):
    """Folders whose meaning is unclear; the text is a clause with what was expected and received."""


@dataclass(frozen=True)
class Files:
    """The files below a folder, hidden ones left out, in alphabetical order."""

    pictures: list[Path] = field(default_factory=list)
    """Files with the suffix of a picture, readable or not."""
    others: list[Path] = field(default_factory=list)


def below(folder: Path) -> Files:
    """Return every file below the folder; hidden folders are left out, links are followed.

    Raises LayoutError for a folder that cannot be read, as its pictures would be missing unnoticed.
    """
    files = Files()
    for place, names in walk(folder):
        _sort_into(files, (place / name for name in names))
    return files


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folder and those below it, with their files: no hidden ones, and each once despite links.

    Raises LayoutError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> NoReturn:
        raise LayoutError(
            f"expected folders that can be read. Received: {error.filename} ({error.strerror})"
        ) from error

    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()  # a link to a folder above would lead in circles
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), sorted(names)


def directly_in(folder: Path) -> Files:
    """Return the files in the folder itself."""
    files = Files()
    _sort_into(files, sorted(path for path in folder.iterdir() if paths.is_file(path)))
    return files


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in it, except hidden ones, in alphabetical order."""
    return sorted(path.name for path in folder.iterdir() if paths.is_folder(path) and not path.name.startswith("."))


def by_suffix(files: Iterable[Path]) -> str:
    """Count the files by suffix, e.g. `3 .txt, 1 without a suffix`."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


@dataclass(frozen=True)
class Parts:
    """The names of the folders to train on and to validate with, and of those that are left out."""

    training: str
    validation: str
    left_out: Sequence[str]


def parts(folder: Path) -> Parts | None:
    """Return how the folder is split into training and validation; None where its folders are classes.

    It is split where one of its folders is called `train` and one `val`, or similarly: in any case, with numbers, with
    words like `images`, or with other words that all of them share (`seg_train`, `seg_test`). `test` is used for
    validation only if there is no such folder. Raises LayoutError where the split is unclear.
    """
    names = subfolders(folder)
    by_role = _roles(names)
    training, validation, test = (by_role[role] for role in ("training", "validation", "test"))
    if not training or not (validation or test):
        if names and len(names) == len(training) + len(validation) + len(test):
            raise LayoutError(
                f"expected one folder per class, or train and val with the same classes in each. Received: only "
                f"{', '.join(names)}; for its classes, set task.data={folder / names[0]}"
            )
        _expect_no_parts_within(folder, names)
        return None
    chosen = validation or test
    others = [name for name in names if name not in (*training, *validation, *test)]
    if len(training) > 1 or len(chosen) > 1 or others:
        raise LayoutError(
            f"expected one folder to train on and one to validate with, and no class beside them. Received: "
            f"{', '.join(names)}"
        )
    chosen_parts = Parts(training[0], chosen[0], test if validation else ())
    classes = {part: set(subfolders(folder / part)) for part in (chosen_parts.training, chosen_parts.validation)}
    here, there = classes.values()
    differences = [f"no folder in {part}" for part, inside in classes.items() if not inside] or [
        f"{', '.join(sorted(inside - other))} only in {part}"
        for part, inside, other in ((chosen_parts.training, here, there), (chosen_parts.validation, there, here))
        if inside - other
    ]
    if differences:
        raise LayoutError(
            f"expected the same class folders in {chosen_parts.training} and {chosen_parts.validation}. "
            f"Received: {'; '.join(differences)}"
        )
    return chosen_parts


def _roles(names: Iterable[str]) -> dict[str, list[str]]:
    """Group the names by `training`, `validation` or `test`; group none where their other words differ.

    So `train` and `test_tube` are two classes.
    """
    by_role: dict[str, list[str]] = {"training": [], "validation": [], "test": []}
    remainders = set()
    for name in names:
        words = [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)]
        roles = [word for word in words if word in _ROLES]
        if len(roles) == 1:
            by_role[_ROLES[roles[0]]].append(name)
            remainders.add(tuple(word for word in words if word not in (roles[0], *_FILLERS)))
    return by_role if len(remainders) == 1 else {role: [] for role in by_role}


def _expect_no_parts_within(folder: Path, classes: Iterable[str]) -> None:
    """Raise LayoutError where a class is itself split: its pictures would be mixed and split again."""
    for name in classes:
        by_role = _roles(subfolders(folder / name))
        if by_role["training"] and (by_role["validation"] or by_role["test"]):
            inside = ", ".join(f"{name}/{part}" for names in by_role.values() for part in names)
            raise LayoutError(
                f"expected train and val around the class folders. Received: {inside}; if {name} is no class, set "
                f"task.data={folder / name}; otherwise swap the two levels or use a list of files"
            )


def _sort_into(files: Files, paths_below: Iterable[Path]) -> None:
    for path in paths_below:
        if not path.name.startswith("."):
            (files.pictures if path.name.lower().endswith(pictures.SUFFIXES) else files.others).append(path)
