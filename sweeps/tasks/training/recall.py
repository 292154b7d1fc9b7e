"""The recall of each class: an overall accuracy is blind to small classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.wording import listed

_MOST_NAMED = 10


@dataclass(frozen=True)
class ByClass:
    """The predictions for the pictures of each class."""

    classes: Sequence[str]
    matrix: np.ndarray[Any, Any]
    """Counts `[true class, predicted class]`."""

    @property
    def recalls(self) -> np.ndarray[Any, Any]:
        """Share of each class's pictures that was recognised `[classes]`; NaN for a class without pictures."""
        with np.errstate(invalid="ignore"):
            recalls: np.ndarray[Any, Any] = self.matrix.diagonal() / self.matrix.sum(axis=1)
        return recalls

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the recalls: every class counts the same, however many pictures it has."""
        return float(np.nanmean(self.recalls))

    def rows(self) -> list[tuple[str, int, int, float]]:
        """Return name, pictures, recognised pictures and recall of each class."""
        right, counts = self.matrix.diagonal().tolist(), self.matrix.sum(axis=1).tolist()
        return list(zip(self.classes, counts, right, self.recalls.round(6).tolist(), strict=True))

    def remarks(self) -> list[str]:
        """Return a warning that names the classes of which no picture was recognised."""
        missed = [f"{name} (0 of {count})" for name, count, right, _ in self.rows() if count and not right]
        return [f"warning: never recognised: {listed(missed, _MOST_NAMED)}"] if missed else []


def by_class(labels: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], classes: Sequence[str]) -> ByClass:
    """Count from the numbers of the true and the predicted classes `[n]`."""
    matrix = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(matrix, (labels, predicted), 1)
    return ByClass(classes, matrix)
