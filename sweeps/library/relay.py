"""A terminal whose other end is a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweeps.machine.node import Node
from sweeps.screen.terminal import Terminal
from tracking.record import Sweep, Trial
from tracking.text.redact import redact


class Relay(Terminal):
    """Prints to standard output; passes `send` each warning, and the folder of a sweep that begins."""

    def __init__(self, send: Callable[[str, str], None]) -> None:
        super().__init__()
        self._send = send

    def warn(self, sentence: str) -> None:
        self._send("warning", redact(sentence))

    def plan(self, sweep: Sweep, todo: Sequence[Trial], nodes: Sequence[Node]) -> None:
        self._send("folder", sweep.folder)
        super().plan(sweep, todo, nodes)
