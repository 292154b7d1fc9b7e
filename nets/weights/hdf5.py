"""Opens HDF5 files safely: they may refer to other files, and be far larger in memory than on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from nets.weights.errors import UnreadableWeights, UnsafeWeights, WeightsError, one_line

MOST_EXPANSION = 100
"""Compressed weights usually expand by 1.1 times, and hardly ever by more than 10 times."""
SLACK = 2**20


def allowance(parameters: int, stored: int) -> int:
    """Return how many bytes an item of `stored` bytes may expand to, for a net with this many parameters.

    So neither weights that are all zero nor a larger head that is skipped are refused.
    """
    return SLACK + max(8 * parameters, MOST_EXPANSION * stored)


@contextmanager
def opened(path: Path, parameters: int, shown: Path | None = None) -> Iterator[h5py.File]:
    """Open a file that contains only its own arrays, none too large for a net with this many parameters.

    `shown` is the path that the user gave. Raises UnsafeWeights, or UnreadableWeights for any other problem.
    """
    try:
        with h5py.File(path, "r") as file:
            _expect_own(file, shown or path, parameters)
            yield file
    except WeightsError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        raise UnreadableWeights(f"{shown or path} is damaged: {one_line(error)}") from error


def look_over(path: Path, parameters: int, shown: Path) -> None:
    """Check, as `opened` does, a file that another library will open. Raises what `opened` raises."""
    with opened(path, parameters, shown):
        pass


def _expect_own(file: h5py.File, path: Path, parameters: int) -> None:
    def look_at_link(_name: str, link: Any) -> WeightsError | None:
        if isinstance(link, h5py.HardLink):
            return None
        return UnsafeWeights(f"expected {path} to hold its own arrays. Received: a link to something else")

    def look_at(_name: str, item: Any) -> WeightsError | None:
        if not isinstance(item, h5py.Dataset):
            return None
        if item.external or item.is_virtual:
            return UnsafeWeights(f"expected {path} to hold its own arrays. Received: one that is in another file")
        if item.dtype.kind == "O":
            return UnreadableWeights(f"{path} is damaged: expected arrays of numbers. Received: objects")
        # A chunk is unpacked whole, and may be larger than its array.
        elements = max(math.prod(item.shape or (0,)), math.prod(item.chunks or (0,)))
        size, stored = elements * item.dtype.itemsize, item.id.get_storage_size()
        if size <= allowance(parameters, stored):
            return None
        return UnsafeWeights(
            f"expected arrays in {path} that are at most {MOST_EXPANSION} times as large as in the file. "
            f"Received: one of {size / 2**20:,.0f} MB from {stored:,} bytes"
        )

    # HDF5 does not pass exceptions through, but stops at the first result that is not None.
    if refusal := file.visititems_links(look_at_link) or file.visititems(look_at):
        raise refusal
