"""Pictures to batches through tf.data: decoded in parallel, cached, shuffled, augmented, prefetched.

An epoch's order and its flips and crops depend on nothing but the seed and the epoch's number, so that a trial that is
resumed in its middle sees what it would have seen.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sweeps.picture_classifier import pictures
from sweeps.tasks.dataset import Example

_PREFETCH = 2
"""Batches made ahead."""


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
        """`margin`: pixels a side that are decoded beyond `size` and cut off; `cache`: in memory, a file, or none."""
        self._examples, self._size, self._fit = examples, size, fit
        self.batch, self._parallel, self._seed = batch, parallel, seed
        self._margin, self._flip = margin, flip
        self._decoded: Any = None
        if cache:
            decoded = self._map_decode(tf.data.Dataset.range(len(examples)))
            self._decoded = decoded.cache() if cache is True else decoded.cache(str(cache))
        self._usable = np.ones(len(examples), dtype=bool)
        self._filled = False
        self.unreadable: dict[int, str] = {}
        """Why examples are left out, by place; known after `fill`."""

    def __len__(self) -> int:
        return int(self._usable.sum())

    @property
    def examples(self) -> list[Example]:
        """Those that can be read, in the order of `in_order`."""
        return [example for example, usable in zip(self._examples, self._usable, strict=True) if usable]

    def fill(self) -> float:
        """Decode every picture once, into the cache if there is one; leave out what is unreadable. -> seconds."""
        start = time.perf_counter()
        decoded = self._decoded
        if decoded is None:
            decoded = self._map_decode(tf.data.Dataset.range(len(self._examples)))
        for _ in decoded.batch(self.batch):
            pass
        self._usable[list(self.unreadable)] = False
        self._filled = True
        return time.perf_counter() - start

    def epoch(self, number: int) -> Any:
        """The batches of an epoch in its own order, augmented."""
        seed = _seed(self._seed, number)
        count = len(self._examples)
        # The same seed gives the same order, whether numbers are shuffled or pictures.
        source = tf.data.Dataset.range(count) if self._decoded is None else self._decoded
        images = self._only_usable(source).shuffle(count, seed, reshuffle_each_iteration=False)
        if self._decoded is None:
            images = self._map_decode(images)
        labels = tf.constant([example.label for example in self._examples], tf.int32)

        def augmented(number: Any, image: Any) -> tuple[Any, Any]:
            own = tf.stack([tf.constant(seed, tf.int64), number])
            if self._margin:
                image = tf.image.stateless_random_crop(image, (*self._size, 3), own)
            if self._flip:
                image = tf.image.stateless_random_flip_left_right(image, own)
            return image, labels[number]

        mapped = images.map(augmented, num_parallel_calls=self._parallel, deterministic=True)
        return mapped.batch(self.batch).prefetch(_PREFETCH)

    def in_order(self) -> Any:
        """The batches in the order of the examples, their middles."""
        if self._decoded is None:
            images = self._map_decode(self._only_usable(tf.data.Dataset.range(len(self._examples))))
        else:
            images = self._only_usable(self._decoded)
        labels = tf.constant([example.label for example in self._examples], tf.int32)
        edge = self._margin // 2

        def middle(number: Any, image: Any) -> tuple[Any, Any]:
            return image[edge : edge + self._size[0], edge : edge + self._size[1]], labels[number]

        return images.map(middle).batch(self.batch).prefetch(_PREFETCH)

    def _map_decode(self, numbers: Any) -> Any:
        """Datasets of (place, image): an unreadable picture is black and noted."""
        size = (self._size[0] + self._margin, self._size[1] + self._margin)

        def read(number: np.int64) -> np.ndarray[Any, Any]:
            try:
                return pictures.read(self._examples[int(number)].path, size, self._fit)
            except pictures.PictureError as error:
                if self._filled:
                    raise
                self.unreadable[int(number)] = str(error)
                return np.zeros((*size, 3), np.uint8)

        def decode(number: Any) -> tuple[Any, Any]:
            image = tf.numpy_function(read, [number], tf.uint8, stateful=False)
            return number, tf.ensure_shape(image, (*size, 3))

        return numbers.map(decode, num_parallel_calls=self._parallel, deterministic=True)

    def _only_usable(self, dataset: Any) -> Any:
        usable = tf.constant(self._usable)
        return dataset.filter(lambda number, *_: usable[number])


def _seed(seed: int, epoch: int) -> int:
    """A seed for one epoch, unlike those of other epochs and seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:4]) >> 1
