"""Stores decoded pictures by number: RGB bytes in memory, or in a file outside the process's memory."""

from __future__ import annotations

import contextlib
import os
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Shape = tuple[int, int, int]
"""Height, width, channels of every picture."""


class Store(Protocol):
    """Pictures of one shape; numbers count from 0."""

    def put(self, numbers: np.ndarray[Any, Any], images: np.ndarray[Any, Any]) -> None:
        """Store pictures `[n, height, width, 3]` under their numbers `[n]`."""

    def get(self, number: int) -> np.ndarray[Any, Any]:
        """Return a copy of a stored picture."""

    def close(self) -> None:
        """Release memory and file; no picture can be stored or read afterwards."""


def create(cache: Path | bool, count: int, shape: Shape) -> Store | None:
    """Create room for `count` pictures in memory (True) or in the file `cache`, which is replaced; None for False.

    Raises OSError where the disk has no room for all of them.
    """
    if isinstance(cache, bool):
        return _InMemory(count, shape) if cache else None
    return _OnDisk(cache, count, shape)


class _InMemory:
    def __init__(self, count: int, shape: Shape) -> None:
        self._images = np.empty((count, *shape), np.uint8)

    def put(self, numbers: np.ndarray[Any, Any], images: np.ndarray[Any, Any]) -> None:
        self._images[numbers] = images

    def get(self, number: int) -> np.ndarray[Any, Any]:
        return self._images[number].copy()  # TensorFlow may take over the array

    def close(self) -> None:
        del self._images


class _OnDisk:
    """Uses reads and writes instead of a mapping, whose pages would count as the process's memory."""

    def __init__(self, path: Path, count: int, shape: Shape) -> None:
        self._shape, self._bytes = shape, prod(shape)
        self._file = path.open("w+b")
        try:
            # A disk that is too small fails now, and not when half of the pictures are decoded.
            os.posix_fallocate(self._file.fileno(), 0, max(1, count * self._bytes))
        except OSError as error:
            self.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise OSError(
                error.errno,
                f"expected room for {count * self._bytes} bytes of decoded pictures. Received: {error.strerror}",
                str(path),
            ) from error

    def put(self, numbers: np.ndarray[Any, Any], images: np.ndarray[Any, Any]) -> None:
        for number, image in zip(numbers.tolist(), images, strict=True):
            os.pwrite(self._file.fileno(), image.tobytes(), number * self._bytes)

    def get(self, number: int) -> np.ndarray[Any, Any]:
        data = os.pread(self._file.fileno(), self._bytes, int(number) * self._bytes)
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def close(self) -> None:
        self._file.close()
