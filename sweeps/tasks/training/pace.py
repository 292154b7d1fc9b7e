"""A net's speed: pictures and seconds of its steps, without those that traced and compiled it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Spent:
    """Pictures, and the seconds spent waiting for them and in the net."""

    images: int = 0
    waited_s: float = 0.0
    stepped_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        return self.images / (self.waited_s + self.stepped_s)


class Pace:
    """Sums over steps. The first step of each batch size, which compiles the net, counts only if there is no other."""

    def __init__(self, seen: set[int]) -> None:
        """`seen` holds the batch sizes of the net's earlier steps in this process; new ones are added."""
        self._seen, self._first, self._later = seen, Spent(), Spent()

    def add(self, images: int, waited_s: float, stepped_s: float) -> None:
        spent = self._later if images in self._seen else self._first
        self._seen.add(images)
        spent.images += images
        spent.waited_s += waited_s
        spent.stepped_s += stepped_s

    @property
    def warm(self) -> bool:
        """Whether any step compiled nothing."""
        return self._later.images > 0

    @property
    def spent(self) -> Spent:
        return self._later if self.warm else self._first
