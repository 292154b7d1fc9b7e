"""Turns pictures into batches through tf.data: decoded in parallel, cached, shuffled, augmented, prefetched.

An epoch's order, flips and crops depend only on the seed and the epoch's number, so that a resumed trial sees what it
would have seen without the interruption.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sweeps.tasks.picture_classifier import pictures
from sweeps.tasks.pictures import picture_store
from sweeps.tasks.pictures.dataset import Example

_PREFETCH = 2
"""Batches prepared in advance."""


class Pipeline:
    """The batches of some examples: RGB bytes `[batch, height, width, 3]` and labels `[batch]`."""

    def __init__(
        self,
        examples: Sequence[Example],
        size: tuple[int, int],
        *,
        fit: pictures.Fit,
        batch: int,
        parallel: int,
        seed: int,
        margin: int = 0,
        flip: bool = False,
        cache: Path | bool = False,
    ) -> None:
        """`margin`: extra pixels per side that are decoded and cropped; `cache`: True for memory, or a file."""
        self._examples, self._size, self._fit = examples, size, fit
        self.batch, self._parallel, self._seed = batch, parallel, seed
        self._margin, self._flip = margin, flip
        self._decoded_size = (size[0] + margin, size[1] + margin)
        self._cache = cache
        self._store: picture_store.Store | None = None
        self._usable = np.ones(len(examples), dtype=bool)
        self._filled = False
        self.unreadable: dict[int, str] = {}
        """Why examples are left out, by index; known after `fill`."""
        self.looks: dict[Path, bytes] = {}
        """A digest of each decoded picture; known after `fill`."""

    def __len__(self) -> int:
        return int(self._usable.sum())

    @property
    def examples(self) -> list[Example]:
        """The readable examples, in the order of `in_order`."""
        return [example for example, usable in zip(self._examples, self._usable, strict=True) if usable]

    @property
    def left_out(self) -> dict[Path, str]:
        """The pictures that cannot be read, and why; known after `fill`."""
        return {self._examples[place].path: reason for place, reason in self.unreadable.items()}

    def fill(self) -> float:
        """Decode every picture once, cache it if there is a cache, and leave unreadable ones out; return the seconds.

        Raises OSError where the disk has no room for the cache.
        """
        start = time.perf_counter()
        store = picture_store.create(self._cache, len(self._examples), (*self._decoded_size, 3))
        for numbers, images in self._pictures(tf.data.Dataset.range(len(self._examples))).batch(self.batch):
            decoded = images.numpy()
            if store is not None:
                store.put(numbers.numpy(), decoded)
            for place, image in zip(numbers.numpy().tolist(), decoded, strict=True):
                self.looks[self._examples[place].path] = hashlib.blake2b(image, digest_size=16).digest()
        self._store = store
        self._usable[list(self.unreadable)] = False
        for path in self.left_out:
            del self.looks[path]
        self._filled = True
        return time.perf_counter() - start

    def epoch(self, number: int) -> Any:
        """Return the batches of an epoch in its own order, augmented."""
        seed = _seed(self._seed, number)
        # This shuffles numbers and not pictures, which would then all be in memory.
        numbers = self._usable_numbers().shuffle(len(self._examples), seed, reshuffle_each_iteration=False)
        labels = tf.constant([example.label for example in self._examples], tf.int32)

        def augmented(number: Any, image: Any) -> tuple[Any, Any]:
            picture_seed = tf.stack([tf.constant(seed, tf.int64), number])
            if self._margin:
                image = tf.image.stateless_random_crop(image, (*self._size, 3), picture_seed)
            if self._flip:
                image = tf.image.stateless_random_flip_left_right(image, picture_seed)
            return image, labels[number]

        mapped = self._pictures(numbers).map(augmented, num_parallel_calls=self._parallel, deterministic=True)
        return mapped.batch(self.batch).prefetch(_PREFETCH)

    def in_order(self) -> Any:
        """Return the batches of central crops in the order of the examples."""
        labels = tf.constant([example.label for example in self._examples], tf.int32)

        def middle(number: Any, image: Any) -> tuple[Any, Any]:
            return pictures.middle(image, self._size, self._margin), labels[number]

        return self._pictures(self._usable_numbers()).map(middle).batch(self.batch).prefetch(_PREFETCH)

    def close(self) -> None:
        """Release the cache; no batch can be read afterwards."""
        if self._store is not None:
            self._store.close()

    def _pictures(self, numbers: Any) -> Any:
        """Return (number, image) for each number, from the cache if it is filled."""
        get = self._decode if self._store is None else self._store.get

        def picture(number: Any) -> tuple[Any, Any]:
            image = tf.numpy_function(get, [number], tf.uint8, stateful=False)
            return number, tf.ensure_shape(image, (*self._decoded_size, 3))

        return numbers.map(picture, num_parallel_calls=self._parallel, deterministic=True)

    def _decode(self, number: np.int64) -> np.ndarray[Any, Any]:
        """Return a picture from its file; during `fill`, an unreadable one is noted and black."""
        path = self._examples[int(number)].path
        try:
            return pictures.read(path, self._decoded_size, self._fit)
        except pictures.PictureError as error:
            if self._filled:
                raise
            self.unreadable[int(number)] = str(error)
            return np.zeros((*self._decoded_size, 3), np.uint8)

    def _usable_numbers(self) -> Any:
        usable = tf.constant(self._usable)
        return tf.data.Dataset.range(len(self._examples)).filter(lambda number: usable[number])


def _seed(seed: int, epoch: int) -> int:
    """Return a seed for one epoch, different from those of other epochs and seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:4]) >> 1
