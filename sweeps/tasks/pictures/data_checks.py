"""Whether pictures can be trained on: readable, no picture twice, and enough of every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

from sweeps.machine import cores
from sweeps.tasks.picture_classifier import pictures
from sweeps.tasks.pictures import copies, folders
from sweeps.tasks.pictures.dataset import MOST_NAMED, DataError, Dataset, Example, listed, read, split


@cache
def problems(data: str, labels: str | None, validation: float, skip_unreadable: bool) -> tuple[str, ...]:
    """Return why the data cannot be trained on, as far as that shows without decoding a picture; cached."""
    try:
        dataset = read(data, labels)
    except DataError as error:
        return tuple(error.problems)
    sentences = []
    unreadable = dict(_unreadable(example.path for example in dataset.examples))
    if unreadable and not skip_unreadable:
        sentences.append(unreadable_sentence(data, unreadable))
    left = replace(dataset, examples=tuple(e for e in dataset.examples if e.path not in unreadable))
    try:
        sentences += copy_problems(data, left.examples)
    except OSError as error:  # a picture is gone by now
        expected = "expected pictures that stay where they are"
        sentences.append(f"task.data={data}: {expected}. Received: {error.filename} ({error.strerror}).")
    return (*sentences, *split_problems(data, left, validation))


def unreadable_sentence(data: str, reasons: Mapping[Path, str]) -> str:
    """Return a sentence on pictures that cannot be used: how many, the first reasons, and how many of each suffix."""
    causes = list(reasons.values())
    more = f", and {len(causes) - MOST_NAMED} more ({folders.by_suffix(reasons)})" if len(causes) > MOST_NAMED else ""
    count = f"{len(causes)} picture{'s' * (len(causes) != 1)}"
    return (
        f"task.data={data}: {count} cannot be used; task.unreadable=skip leaves such out: "
        f"{'; '.join(causes[:MOST_NAMED])}{more}."
    )


def copy_problems(data: str, examples: Sequence[Example]) -> list[str]:
    """Return a sentence on pictures that occur twice under any names: they would be in two classes or both parts."""
    repeated = copies.pairs([(example.place or str(example.path), example.path) for example in examples])
    if not repeated:
        return []
    return [f"task.data={data}: expected each picture once. Received: {listed(repeated, '; ')}."]


def split_problems(data: str, dataset: Dataset, validation: float) -> list[str]:
    """Return sentences on too few classes, and on classes too small to be trained on and validated with."""
    counts = Counter(example.label for example in dataset.examples)
    problems = []
    if len(dataset.classes) < 2:
        problems.append(
            f"task.data={data}: expected at least 2 classes. Received: {listed(dataset.classes) or 'none'}."
        )
    empty = [name for label, name in enumerate(dataset.classes) if not counts[label]]
    if empty:
        problems.append(f"task.data={data}: expected pictures in every class. Received: none of {listed(empty)}.")
    if dataset.held_out is not None:
        there = [name for label, name in enumerate(dataset.classes) if counts[label]]
        parts = zip(("train on", "validate with"), split(dataset, validation, 0), strict=True)
        return problems + [
            f"task.data={data}: expected pictures of every class to {purpose}. Received: none of {listed(lacking)}."
            for purpose, examples in parts
            if (lacking := sorted(set(there) - {dataset.classes[example.label] for example in examples}))
        ]
    least = 2 if validation else 1
    small = [name for label, name in enumerate(dataset.classes) if 0 < counts[label] < least]
    if small:
        problems.append(
            f"task.data={data}: expected at least {least} pictures per class, one of them for validation. "
            f"Received: 1 of {listed(small)}."
        )
    return problems


def part_problems(data: str, purpose: str, examples: Iterable[Example], classes: Sequence[str]) -> list[str]:
    """Return a sentence on classes without a picture in the part to `purpose` ("train on", "validate with")."""
    there = {example.label for example in examples}
    empty = [name for label, name in enumerate(classes) if label not in there]
    if not empty:
        return []
    return [
        f"task.data={data}: expected pictures of every class to {purpose}, without those that cannot be read. "
        f"Received: none of {listed(empty)}."
    ]


def _unreadable(files: Iterable[Path]) -> Iterable[tuple[Path, str]]:
    files = list(files)
    with ThreadPoolExecutor(len(cores.available())) as pool:
        return [(path, why) for path, why in zip(files, pool.map(pictures.check, files), strict=True) if why]
