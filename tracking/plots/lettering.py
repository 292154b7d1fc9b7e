"""Text in pictures that Pillow draws."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageDraw, ImageFont


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it, since Pillow's own font lacks the micro sign.

    Raises ImportError without matplotlib.
    """
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        raise ImportError("expected matplotlib to be installed: its fonts are used")
    return ImageFont.truetype(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def cut(draw: ImageDraw.ImageDraw, text: str, size: int, room: float) -> str:
    """As much of the text as fits into `room` pixels at this font size, with dots where it is cut."""
    while draw.textlength(text, font(size)) > room:
        text = text[: -max(4, len(text) // 10)].rstrip(" .,") + "..."
    return text
