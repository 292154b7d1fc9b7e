"""The report's table of timed trials: a row for each pass, and one for each trial that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from tracking.analysis import metrics
from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.doubts import doubts_of
from tracking.analysis.metrics import Metric
from tracking.analysis.peaks import Peak, Peaks
from tracking.analysis.samples import Kind, kind_of, samples_of
from tracking.analysis.stats.steps import median_interval
from tracking.record import Pass, Result
from tracking.report.wording import plus_minus, seconds, seconds_range, significant, thousands


class Column(NamedTuple):
    """A column's heading, how its cells sort, and a tooltip."""

    words: tuple[str, ...]
    """Parts of the heading, between which a line may break."""
    kind: Literal["text", "number"] = "number"
    about: str = ""


class Cell(NamedTuple):
    """What a cell shows, with a fainter second line."""

    text: str = ""
    note: str = ""
    value: float | None = None
    """The number that the cell sorts by."""
    style: str = ""
    """A class of the page's style sheet."""
    span: int = 1
    """Columns that the cell covers."""


class Row(NamedTuple):
    """A trial's name and its cells."""

    name: str
    cells: tuple[Cell, ...]
    failed: bool = False
    opens: tuple[int, Pass] | None = None
    """The trial's position and the pass whose step times are drawn below the row when its name is clicked."""


class Table(NamedTuple):
    """A table of trials; the first column has their names."""

    columns: tuple[Column, ...]
    rows: list[Row]
    wraps: bool = False
    """Whether headings may break into lines."""


_TIMES = (
    Column(("trial",), "text", "Model, batch size and whatever else varies"),
    Column(("pass",), "text"),
    Column(("mean ± sd",), about="Mean and standard deviation of the timed steps, per batch"),
    Column(("median (95%)",), about="Median of the timed steps and its 95% interval, per batch"),
)
_FURTHER = (
    Column(("p99",), about="99% of the steps took less"),
    Column(("steps",), about="Timed steps, and why timing stopped"),
    Column(("first call",), about="Tracing, compilation and the first execution"),
    Column(("GFLOP/s",), about="Achieved rate, and its share of what this device can do at this precision"),
    Column(("memory",), about="Peak of the device where known, else of the process"),
)
_IN_COLUMNS = (
    *("mean_s", "sd_s", "median_s", "images_per_s", "p99_s", "first_call_s"),
    *("gflops_per_s", "peak_rss_mb", "peak_device_mb"),
)
"""Metrics that these columns show."""
_LEFT_OUT = ("p90_s",)
"""Metrics that the page has no room for."""
_VERDICT = Column(("verdict",), "text", "Reasons to doubt the figures")


def _others(results: Sequence[Result]) -> list[Metric]:
    """The metrics that have a column of their own because they have a row in the table of metrics, and values."""
    return [
        metric
        for metric in metrics.METRICS
        if metric.name not in (*_IN_COLUMNS, *_LEFT_OUT) and metric.measured(results)
    ]


def _columns(others: Sequence[Metric], kind: Kind) -> tuple[Column, ...]:
    """The columns; those of `others` follow the rate, as tokens do samples."""
    rate = Column((f"{kind}/s",), about=f"All {kind} over all timed seconds")
    headed = (Column((metric.heading or metric.name,), about=f"Unit: {metric.unit_for(kind)}") for metric in others)
    return (*_TIMES, rate, *headed, *_FURTHER, _VERDICT)


def table(results: Sequence[Result], names: Mapping[str, str]) -> Table:
    """The table of `results`, in their order."""
    rows = []
    peaks, others = Peaks(results), _others(results)
    columns = _columns(others, kind_of(results))
    for position, result in enumerate(results):
        name = names[result.trial_id]
        rows += [_timed(name, position, result, pass_name, peaks.of(result), others) for pass_name in result.passes]
        if not result.passes or not result.ok:
            rows.append(Row(name, (Cell(), Cell(span=len(columns) - 3), Cell(result.status)), failed=True))
    return Table(columns, rows)


def _timed(
    name: str, position: int, result: Result, pass_name: Pass, peak: Peak | None, others: Sequence[Metric]
) -> Row:
    measured = result.passes[pass_name]
    median = measured.median_s
    rate = measured.gflops_per_s
    memory = measured.peak_device_mb or measured.peak_rss_mb
    doubts = "; ".join(doubts_of(result, pass_name))
    samples = samples_of(result)
    per_s = samples.count / measured.mean_s
    cells = (
        Cell(PASS_TITLES[pass_name], style="pass"),
        Cell(plus_minus(measured.mean_s, measured.sd_s), value=measured.mean_s),
        Cell(seconds(median), seconds_range(*median_interval(measured.step_s)), value=median),
        Cell(significant(per_s), value=per_s),
        *(Cell(metric.text_of(measured, samples), value=metric.value(measured, samples)) for metric in others),
        Cell(seconds(measured.p99_s), value=measured.p99_s),
        Cell(thousands(len(measured.step_s)), measured.stopped, value=len(measured.step_s)),
        Cell(seconds(measured.first_call_s), value=measured.first_call_s),
        Cell(
            significant(rate) if rate else "",
            f"{100 * rate / peak.gflops_per_s:.0f}%" if rate and peak else "",
            value=rate or 0,
        ),
        Cell(f"{memory:,.0f} MB" if memory else "", value=memory or 0),
        Cell(doubts, style="doubt") if doubts else Cell("good", style="good"),
    )
    return Row(name, cells, opens=(position, pass_name))
