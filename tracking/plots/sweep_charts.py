"""The table of a sweep's charts over batch size: each is a picture in `plots/` and an entry of the report's menu.

To add a chart, add a row to `CHARTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from tracking.analysis import curves
from tracking.analysis.curves import Curve
from tracking.analysis.peaks import Peaks
from tracking.analysis.samples import Kind, kind_of
from tracking.record import PASSES, Pass, Result


class Lines(NamedTuple):
    """What a chart draws."""

    curves: Sequence[Curve]
    base: str = ""
    """What every curve is compared with, where it is the same for all; it joins the chart's title."""
    reference: float | None = None
    """A value to compare the curves with, drawn as a horizontal line."""


class Measured:
    """The results of a sweep; the curves that several charts need are computed once."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.times = cache(self._times)

    def _times(self, pass_name: Pass) -> list[Curve]:
        return curves.time_curves(self.results, pass_name)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart of one figure of the results. It is left out where no result has the figure."""

    file_name: str
    """The picture's file name, without the pass and the suffix."""
    title: str
    """`{samples}` stands for what the samples of the sweep are, here and in `axis` and `unit`."""
    axis: str
    """Label of the value axis; `{unit}` stands for the unit."""
    unit: str
    """The unit of the curves' values; seconds (`s`) are shown in the multiple that suits them."""
    lines: Callable[[Measured, Pass], Lines]
    reference_name: str = ""
    per_pass: bool = True
    """Whether each pass has a figure of its own; else `lines` gets the first pass and need not look at it."""


@dataclass(frozen=True, kw_only=True)
class DrawnChart:
    """A chart with the curves of one sweep."""

    chart: Chart
    pass_name: Pass | None
    """None for a figure of the whole trial."""
    lines: Lines
    samples: Kind = "images"
    """What the samples of the sweep are."""

    @property
    def title(self) -> str:
        """The chart's title, with what everything is compared with."""
        title = self.chart.title.replace("{samples}", self.samples)
        return f"{title} over {self.lines.base}" if self.lines.base else title

    @property
    def axis(self) -> str:
        """Label of the value axis, in which `{unit}` still stands for the unit."""
        return self.chart.axis.replace("{samples}", self.samples)

    @property
    def unit(self) -> str:
        """The unit of the curves' values."""
        return self.chart.unit.replace("{samples}", self.samples)

    @property
    def file_name(self) -> str:
        """The picture's file name, without the suffix."""
        return f"{self.chart.file_name}_{self.pass_name}" if self.pass_name else self.chart.file_name


def sweep_charts(results: Sequence[Result]) -> Iterator[DrawnChart]:
    """The charts that `results` have figures for, in the order of the table."""
    measured, samples = Measured(results), kind_of(results)
    for chart in CHARTS:
        for pass_name in PASSES if chart.per_pass else PASSES[:1]:
            lines = chart.lines(measured, pass_name)
            if any(line.points for line in lines.curves):
                of_pass = pass_name if chart.per_pass else None
                yield DrawnChart(chart=chart, pass_name=of_pass, lines=lines, samples=samples)


def _times(measured: Measured, pass_name: Pass) -> Lines:
    return Lines(measured.times(pass_name))


def _rates(measured: Measured, pass_name: Pass) -> Lines:
    return Lines(curves.rate_curves(measured.times(pass_name)))


def _token_rates(measured: Measured, pass_name: Pass) -> Lines:
    return Lines(curves.token_curves(measured.times(pass_name), measured.results))


def _speedups(measured: Measured, pass_name: Pass) -> Lines:
    base, ratios = curves.speedup_curves(measured.results, pass_name)
    return Lines(ratios, base, reference=1.0)


def _gflops_per_s(measured: Measured, pass_name: Pass) -> Lines:
    """The achieved rates; the reference is the device's peak, where it is the same for all of them."""
    timed = [result for result in measured.results if pass_name in result.passes]
    peaks = Peaks(measured.results)
    highest = {peak.gflops_per_s if (peak := peaks.of(result)) else None for result in timed}
    rates = curves.figure_curves(measured.results, lambda result: _rate(result, pass_name), pass_name)
    return Lines(rates, reference=highest.pop() if len(highest) == 1 else None)


def _rate(result: Result, pass_name: Pass) -> float | None:
    return result.passes[pass_name].gflops_per_s if pass_name in result.passes else None


def _peak_rss(measured: Measured, _pass_name: Pass) -> Lines:
    return Lines(curves.figure_curves(measured.results, lambda result: result.peak_rss_mb))


def _peak_device(measured: Measured, _pass_name: Pass) -> Lines:
    return Lines(curves.figure_curves(measured.results, lambda result: result.peak_device_mb))


CHARTS: tuple[Chart, ...] = (
    Chart(
        file_name="time_per_batch",
        title="time per batch",
        axis="mean time per batch ({unit})",
        unit="s",
        lines=_times,
    ),
    Chart(
        file_name="images_per_s",
        title="{samples} per second",
        axis="{samples} per second",
        unit="{samples}/s",
        lines=_rates,
    ),
    Chart(
        file_name="tokens_per_s",
        title="tokens per second",
        axis="tokens per second",
        unit="tokens/s",
        lines=_token_rates,
    ),
    Chart(
        file_name="speedup",
        title="speedup",
        axis="times as fast",
        unit="times as fast",
        lines=_speedups,
    ),
    Chart(
        file_name="gflops_per_s",
        title="arithmetic rate",
        axis="GFLOP/s",
        unit="GFLOP/s",
        lines=_gflops_per_s,
        reference_name="measured peak",
    ),
    Chart(
        file_name="peak_rss",
        title="peak memory, process",
        axis="peak memory ({unit})",
        unit="MB",
        lines=_peak_rss,
        per_pass=False,
    ),
    Chart(
        file_name="peak_device",
        title="peak memory, device",
        axis="peak memory ({unit})",
        unit="MB",
        lines=_peak_device,
        per_pass=False,
    ),
)
