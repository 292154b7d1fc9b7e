"""The picture of one trial's step times.

It is drawn with Pillow alone, because each trial gets one before the next trial starts, and matplotlib takes several
times as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.stats.steps import median_interval, outliers
from tracking.plots.lettering import cut, font
from tracking.record import Pass, Result
from tracking.text.units import seconds_unit

WIDTH, HEIGHT = 800, 340
"""Pixels of the picture."""
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 70, WIDTH - 18, HEIGHT - 44
_FINE = 2
"""Shapes are drawn this many times as large and then reduced, which smooths their edges; text is drawn smooth."""
_BLUE, _ORANGE, _GREY, _INK = "#0072B2", "#D55E00", "#8a8a8a", "#262626"
_BAND, _SHADE, _GRID = "#bfe0f3", "#f1f1f1", "#e4e4e4"
_LEGEND = ("timed step", "warm-up", "outlier", "median, 95% interval")
_MOST_DOTS = 260


def draw_steps(result: Result, pass_name: Pass, path: str | Path) -> None:
    """Write to `path` the step times of one pass in order: warm-up, outliers and the median's interval marked.

    A PNG of 800 x 340 pixels. Raises KeyError when the result has no such pass.
    """
    measured = result.passes[pass_name]
    factor, unit = seconds_unit(measured.median_s)
    warmup = [factor * seconds for seconds in measured.warmup_s]
    steps = [factor * seconds for seconds in measured.step_s]
    # The first warm-up steps can be a hundred times the rest, which would hide it: they get an arrow instead.
    highest = max(steps)
    top = 1.08 * max(highest, min(max(warmup, default=0.0), 1.3 * highest))
    plot = _Plot(-len(warmup) - 0.5, len(steps) - 0.5, top)
    plot.warmup(warmup)
    plot.steps(steps, factor * measured.median_s)
    picture = plot.finished(unit)
    draw = ImageDraw.Draw(picture)
    name = f"{result.trial.model}, batch {result.trial.batch}, {result.trial.device.label}, {PASS_TITLES[pass_name]}"
    figures = (
        f"{factor * measured.mean_s:.4g} ± {factor * measured.sd_s:.2g} {unit} in {len(steps):,} "
        f"step{'s' * (len(steps) != 1)}"
    )
    room = WIDTH - 40 - draw.textlength(figures, font(14))
    draw.text((14, 24), cut(draw, name, 14, room), _INK, font(14), anchor="ls")
    draw.text((WIDTH - 14, 24), figures, _INK, font(14), anchor="rs")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "PNG", compress_level=1)


class _Plot:
    """Axes from `first` to `last` step and from 0 to `top`, drawn on a canvas `_FINE` times the picture's size."""

    def __init__(self, first: float, last: float, top: float) -> None:
        self._first, self._last, self._top = first, last, top
        self._canvas = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), "white")
        self._draw = ImageDraw.Draw(self._canvas)
        self._dot = 2.6 if last - first <= _MOST_DOTS else 0.0

    def _at(self, step: float, value: float) -> tuple[float, float]:
        """The place of a step's value on the canvas."""
        x = _LEFT + (step - self._first) / (self._last - self._first) * (_RIGHT - _LEFT)
        return x * _FINE, (_BOTTOM - value / self._top * (_BOTTOM - _TOP)) * _FINE

    def warmup(self, values: Sequence[float]) -> None:
        """Draw the warm-up's shade, its steps left of step 0, and arrows for those beyond the axis."""
        if values:
            self._draw.rectangle((self._at(self._first, self._top), self._at(-0.5, 0)), _SHADE)
        for tick in _ticks(self._top, 5):
            self._level(tick, self._first, _GRID)
        shown = [(i - len(values), value) for i, value in enumerate(values) if value <= self._top]
        self._trace(shown, _GREY)
        for i, value in enumerate(values):
            if value > self._top:
                x, y = self._at(i - len(values), self._top)
                self._draw.polygon(((x - 9, y + 14), (x + 9, y + 14), (x, y - 2)), _GREY)

    def steps(self, values: Sequence[float], median: float) -> None:
        """Draw the timed steps, their outliers ringed, over the median's interval."""
        low, high = median_interval(values)
        left, upper = self._at(-0.5, high)
        right, lower = self._at(self._last, low)
        self._draw.rectangle((left, upper, right, max(lower, upper + 1)), _BAND)
        self._level(median, -0.5, _BLUE)
        self._trace(list(enumerate(values)), _BLUE)
        for i in outliers(values):
            _circle(self._draw, self._at(i, values[i]), 4.6 * _FINE, outline=_ORANGE)

    def _level(self, value: float, first: float, colour: str) -> None:
        """Draw a horizontal line that fills one row of the picture, so that it stays sharp."""
        left, y = self._at(first, value)
        row = int(y) // _FINE * _FINE
        self._draw.rectangle((left, row, _RIGHT * _FINE, row + _FINE - 1), colour)

    def _trace(self, points: Sequence[tuple[int, float]], colour: str) -> None:
        places = [self._at(*point) for point in points]
        if len(places) > 2 * (_RIGHT - _LEFT):
            places = list(_envelope(places))
        if len(places) > 1:
            self._draw.line(places, colour, 1 if self._dot else _FINE)
        for place in places if self._dot else ():
            _circle(self._draw, place, self._dot * _FINE, fill=colour)

    def finished(self, unit: str) -> Image.Image:
        """The picture in its final size with axes, ticks, labels and legend."""
        corner = (_LEFT * _FINE, _BOTTOM * _FINE)
        self._draw.line(((_LEFT * _FINE, _TOP * _FINE), corner, (_RIGHT * _FINE, _BOTTOM * _FINE)), _INK, _FINE)
        picture = self._canvas.reduce(_FINE)
        draw = ImageDraw.Draw(picture)
        for tick in _ticks(self._top, 5):
            y = self._at(0, tick)[1] / _FINE
            draw.line(((_LEFT - 4, y), (_LEFT, y)), _INK)
            draw.text((_LEFT - 8, y), f"{tick:,.10g}", _INK, font(12), anchor="rm")
        for tick in _ticks(self._last, 8):
            if tick == int(tick):
                x = self._at(tick, 0)[0] / _FINE
                draw.line(((x, _BOTTOM), (x, _BOTTOM + 4)), _INK)
                draw.text((x, _BOTTOM + 7), f"{int(tick):,}", _INK, font(12), anchor="ma")
        draw.text((14, 51), f"step time ({unit})", _INK, font(12), anchor="ls")
        draw.text((_RIGHT, HEIGHT - 4), "timed step", _INK, font(12), anchor="rs")
        legend = _legend()
        picture.paste(legend, (WIDTH - 14 - legend.width, 36))
        return picture


@cache
def _legend() -> Image.Image:
    """The symbols and their names in one row, in the picture's final size."""
    letters, gap, sign, height = font(12), 18, 22, 20
    widths = [math.ceil(letters.getlength(name)) + sign + gap for name in _LEGEND]
    canvas = Image.new("RGB", ((sum(widths) - gap) * _FINE, height * _FINE), "white")
    fine = ImageDraw.Draw(canvas)
    starts = [sum(widths[:i]) for i in range(len(widths))]
    middle = height * _FINE // 2
    for kind, start in zip(_LEGEND, starts, strict=True):
        left, right = start * _FINE, (start + sign - 6) * _FINE
        centre = ((left + right) / 2, middle)
        if kind == "outlier":
            _circle(fine, centre, 4.6 * _FINE, outline=_ORANGE)
            continue
        if kind.startswith("median"):
            fine.rectangle((left, middle - 5 * _FINE, right, middle + 5 * _FINE), _BAND)
        colour = _GREY if kind == "warm-up" else _BLUE
        fine.line((left, middle, right, middle), colour, _FINE)
        if not kind.startswith("median"):
            _circle(fine, centre, 2.6 * _FINE, fill=colour)
    picture = canvas.reduce(_FINE)
    draw = ImageDraw.Draw(picture)
    for kind, start in zip(_LEGEND, starts, strict=True):
        draw.text((start + sign, height // 2 + 5), kind, _INK, letters, anchor="ls")
    return picture


def _envelope(places: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The lowest and highest point of each pixel column, which look the same as all points."""
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(places), 1) if int(a[0]) != int(b[0])), len(places)]
    for start, end in pairwise(starts):
        column = [y for _, y in places[start:end]]
        yield places[start][0], min(column)
        yield places[start][0], max(column)


def _ticks(end: float, most: int) -> list[float]:
    """At most about `most` round numbers from 0 to `end`."""
    if end <= 0:
        return [0.0]
    rough = end / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * share for share in (1, 2, 5, 10) if magnitude * share >= rough * 0.999)
    return [step * i for i in range(int(end / step + 1e-9) + 1)]


def _circle(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, *, fill: str = "", outline: str = ""
) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill or None, outline or None, 3 if outline else 0)
