"""The picture files that `task.images` names."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from sweeps.process import paths
from sweeps.tasks.pictures import folders
from sweeps.tasks.pictures.dataset import DataError

_LONGEST_PATTERN = 4096


def matching(images: str | Sequence[str]) -> list[Path]:
    """Return the files that `task.images` names, also by folder or glob. Raises DataError where one matches nothing."""
    files: list[Path] = []
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
            expected = "expected a file, a folder or a pattern that matches files"
            received = "nothing there" if received == "a path where there is none" else received
            missing.append(f"task.images={paths.shortened(pattern)}: {expected}. Received: {received}.")
        files += matched
    if missing or not files:
        raise DataError(missing or ["task.images: expected a file, a folder or a pattern. Received: none."])
    return list(dict.fromkeys(files))


def _globbed(pattern: str) -> list[Path]:
    """Return the files that a pattern matches. `**` visits each folder once: links may lead in circles."""
    if "\0" in pattern or len(pattern) > _LONGEST_PATTERN:
        return []
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    start, deep, rest = pattern.partition("**/")
    if not deep or (start and not start.endswith("/")):
        names = glob.glob(pattern)  # noqa: PTH207 - a Path knows no absolute patterns
        return sorted(path for name in names if paths.is_file(path := Path(name)))
    rest = rest.replace("**/", "")  # a second `**` matches nothing more
    below = [root for name in glob.glob(start or ".") if paths.is_folder(root := Path(name))]  # noqa: PTH207
    places = [place for root in below for place, _ in folders.walk(root)]
    return sorted({path for place in places for path in _globbed(f"{glob.escape(str(place))}/{rest}")})


def beside(images: str | Sequence[str]) -> list[Path]:
    """Return the files in the folders of `task.images` that do not have the suffix of a picture."""
    given = [Path(pattern) for pattern in ([images] if isinstance(images, str) else images)]
    return [path for folder in given if paths.is_folder(folder) for path in folders.below(folder).others]
