"""Pictures of a classifier's work: a grid of samples with their predictions, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from tracking.plots.lettering import cut, font

_SIDE = 176
"""Pixels of a picture in the grid."""
_GAP, _LINE, _MARGIN = 14, 17, 16
_COLUMNS = 6
_INK, _FAINT, _GOOD, _BAD = "#262626", "#6b6b6b", "#007a5a", "#c24e00"
_MOST_CLASSES_NAMED = 60
_MOST_CELLS_WRITTEN = 20


@dataclass(frozen=True)
class Sample:
    """A picture, RGB bytes `[height, width, 3]`, and its captions."""

    image: Any
    title: str
    lines: tuple[str, ...] = ()
    note: str = ""
    """Above the picture, e.g. its name."""
    good: bool | None = None
    """Whether the prediction is right, where that is known."""


def draw_samples(samples: Sequence[Sample], path: str | Path) -> None:
    """Write a PNG with the samples in rows of up to six; nothing where there are none."""
    if not samples:
        return
    columns = min(_COLUMNS, len(samples))
    above = _LINE if any(sample.note for sample in samples) else 0
    height = above + _SIDE + 6 + _LINE * (1 + max(len(sample.lines) for sample in samples)) + _GAP
    size = (
        2 * _MARGIN + columns * (_SIDE + _GAP) - _GAP,
        2 * _MARGIN + math.ceil(len(samples) / columns) * height - _GAP,
    )
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    for place, sample in enumerate(samples):
        x, y = _MARGIN + place % columns * (_SIDE + _GAP), _MARGIN + place // columns * height
        if sample.note:
            draw.text((x, y + 12), cut(draw, sample.note, 11, _SIDE), _FAINT, font(11), anchor="ls")
        picture = Image.fromarray(sample.image)
        resample = Image.Resampling.NEAREST if picture.width < _SIDE // 4 else Image.Resampling.BICUBIC
        picture = picture.resize((_SIDE, _SIDE), resample)
        y += above
        grid.paste(picture, (x, y))
        colour = _INK if sample.good is None else _GOOD if sample.good else _BAD
        if sample.good is not None:
            draw.rectangle((x - 2, y - 2, x + _SIDE + 1, y + _SIDE + 1), outline=colour, width=2)
        y += _SIDE + 17
        draw.text((x, y), cut(draw, sample.title, 13, _SIDE), colour, font(13), anchor="ls")
        for line in sample.lines:
            y += _LINE
            draw.text((x, y), cut(draw, line, 11, _SIDE), _FAINT, font(11), anchor="ls")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    grid.save(path, "PNG")


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: str | Path) -> None:
    """Write a PNG of the matrix of counts, true classes down and predicted ones across, shaded by share of the row."""
    count = len(classes)
    shares = [[cell / max(1, sum(row)) for cell in row] for row in matrix]
    right, total = sum(matrix[i][i] for i in range(count)), sum(map(sum, matrix))
    cell = 0.5 if count <= _MOST_CELLS_WRITTEN else max(0.1, 9 / count)
    names = [_short(name) for name in classes]
    label = 0.085 * max(map(len, names)) if count <= _MOST_CLASSES_NAMED else 0.3
    side = max(2.2, cell * count)
    figure = Figure(figsize=(side + label + 1.9, side + label + 1.3), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= _MOST_CELLS_WRITTEN:
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                if value:
                    colour = "white" if shares[i][j] > 0.55 else _INK
                    axes.text(j, i, f"{value:,}", ha="center", va="center", color=colour, fontsize=9)
    if count <= _MOST_CLASSES_NAMED:
        size = 9 if count <= _MOST_CELLS_WRITTEN else 6
        axes.set_xticks(range(count), names, rotation=90 if max(map(len, names)) > 4 else 0, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    recalls = [shares[i][i] for i in range(count) if sum(matrix[i])]
    balanced = f"mean of classes {sum(recalls) / max(1, len(recalls)):.1%}"
    title = f"{right:,} of {total:,} right ({right / max(1, total):.1%})\n{balanced}"
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=lambda value, _: f"{value:.0%}")
    bar.set_label("share of the true class", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _short(name: str) -> str:
    name = name if len(name) <= 24 else name[:22] + "..."
    return name.replace("$", r"\$")
