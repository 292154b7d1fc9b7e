"""Printing in which no text, wherever it is from, can control the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from tracking.text.printable import printable_lines


class Screen(Console):
    """Rich's console, on which control characters within texts appear as escapes; its own colours work."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape a renderable's text; each part of a table comes through here too, before it is laid out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))


def say(sentence: str) -> None:
    """Print a line to standard output."""
    _write(sys.stdout, sentence)


def complain(sentence: str) -> None:
    """Print a line to standard error."""
    _write(sys.stderr, sentence)


def _write(stream: TextIO, sentence: str) -> None:
    stream.write(f"{printable_lines(sentence)}\n")
