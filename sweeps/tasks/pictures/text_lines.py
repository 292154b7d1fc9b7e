"""Reads text files with lists of pictures or names of classes: their lines, and a line's two fields."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path

from sweeps.process import paths

_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Longer marks come first, as one is the start of another."""


def lines(path: str | Path, most_mb: int) -> list[str]:
    """Return the stripped lines of a file in UTF-8, with or without a byte order mark and with any line ends.

    Raises OSError, and UnicodeError, whose text says what the file is instead, e.g. larger than `most_mb`.
    """
    if (received := paths.not_readable(path)) is not None:
        raise UnicodeError(received)
    with Path(path).open("rb") as file:
        data = file.read(most_mb * 2**20 + 1)
    if len(data) > most_mb * 2**20:
        raise UnicodeError(f"more than {most_mb} MB")
    for mark, name in _OTHERS.items():
        if data.startswith(mark):
            raise UnicodeError(f"{name}; save it as UTF-8")
    if b"\0" in data:
        raise UnicodeError("zero bytes, as UTF-16 or a file that is not text has them; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnicodeError(f"a byte {data[error.start]:#04x} in line {line} that is not UTF-8") from error
    return [line.strip() for line in re.split("\r\n|\r|\n", text)]


def path_and_label(line: str, is_path: Callable[[str], bool]) -> tuple[str, str]:
    """Split a line `path label` at a tab, a blank or a comma; the path is empty where there is none.

    Paths may contain blanks and commas: the first separator, in this order, with an existing path before it counts.
    """
    pairs = []
    for pattern in (r"(.*)\t(.*)", r"(.*\S)\s+(\S+)", r"(.*),(.*)"):
        if match := re.fullmatch(pattern, line):
            path, label = (field.strip().strip('"') for field in match.groups())
            pairs.append((path, label))
    return next((pair for pair in pairs if pair[0] and is_path(pair[0])), next(iter(pairs), ("", line)))
