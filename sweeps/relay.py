"""A terminal with a program at its other end."""

from __future__ import annotations

from collections.abc import Callable

from sweeps.terminal import Terminal
from tracking.redact import redact


class Relay(Terminal):
    """Prints to standard output, and gives each warning to `warned`."""

    def __init__(self, warned: Callable[[str], None]) -> None:
        super().__init__()
        self._warned = warned

    def warn(self, sentence: str) -> None:
        self._warned(redact(sentence))
