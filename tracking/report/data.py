"""The numbers behind the report's charts, small enough to travel inside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracking.analysis.curves import Curve
from tracking.analysis.stats.steps import outliers
from tracking.plots.sweep_charts import sweep_charts
from tracking.record import Result
from tracking.schema.measurement import Measurement
from tracking.text.printable import printable

_ALL_SAMPLES = 250_000
"""Step times in the page, all trials together."""


def trial_data(results: Sequence[Result], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The figures of each trial that a tooltip or an opened row shows, in the order of `results`."""
    passes = sum(len(result.passes) for result in results)
    room = min(400, max(20, _ALL_SAMPLES // max(1, passes)))
    return [
        {
            "id": result.trial_id,
            "name": names[result.trial_id],
            "quality": list(result.quality),
            "passes": {name: _pass_data(measured, room) for name, measured in result.passes.items()},
        }
        for result in results
    ]


def chart_data(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The charts that `results` have figures for, each with its curves."""
    return [
        {
            "figure": drawn.title,
            "pass": drawn.pass_name,
            "axis": drawn.axis,
            "unit": drawn.unit,
            "reference": drawn.lines.reference,
            "referenceName": drawn.chart.reference_name,
            "lines": [_line(curve) for curve in drawn.lines.curves],
        }
        for drawn in sweep_charts(results)
    ]


def _line(curve: Curve) -> dict[str, Any]:
    return {
        "label": printable(curve.label),
        "points": [
            {
                "x": point.batch,
                "y": _round(point.middle),
                "low": _round(point.low),
                "high": _round(point.high),
                "ids": point.trial_ids,
            }
            for point in curve.points
        ],
        "failed": curve.failed,
    }


def _pass_data(measured: Measurement, room: int) -> dict[str, Any]:
    stride, steps = thinned(measured.step_s, room)
    return {
        "n": len(measured.step_s),
        "stopped": measured.stopped,
        "outliers": len(outliers(measured.step_s)),
        "median": _round(measured.median_s),
        "stride": stride,
        "steps": steps,
        "warmup": [_round(value) for value in measured.warmup_s[-20:]],
    }


def thinned(samples: Sequence[float], room: int) -> tuple[float, list[float]]:
    """How many steps each kept sample stands for, and at most `room` samples: the extremes of equal stretches.

    A single slow step thus stays visible among thousands.
    """
    if len(samples) <= room:
        return 1.0, [_round(sample) for sample in samples]
    count = room // 2
    kept: list[float] = []
    for i in range(count):
        stretch = samples[len(samples) * i // count : len(samples) * (i + 1) // count]
        kept += [_round(min(stretch)), _round(max(stretch))]
    return len(samples) / len(kept), kept


def _round(value: float) -> float:
    return float(f"{value:.5g}")
