"""The numbers behind the report's charts, small enough to travel inside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tracking.analysis import curves
from tracking.analysis.curves import Curve
from tracking.analysis.stats import outliers
from tracking.record import PASSES, Pass, Result
from tracking.schema.measurement import Measurement
from tracking.text.printable import printable

_ALL_SAMPLES = 250_000
"""Step times in the page, all trials together."""


def trial_data(results: Sequence[Result], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a tooltip or an opened row says of each trial, in the order of `results`."""
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
    """The charts that `results` give, each with its curves."""
    charts = []
    for pass_name in PASSES:
        times = curves.time_curves(results, pass_name)
        base, ratios = curves.speedup_curves(results, pass_name)
        rates = curves.figure_curves(results, partial(_rate, pass_name))
        charts += [
            _chart("time per batch", pass_name, "s", times),
            _chart("images per second", pass_name, "images/s", curves.rate_curves(times)),
            _chart(f"speedup over {base}" if base else "speedup", pass_name, "times as fast", ratios),
            _chart("arithmetic rate", pass_name, "GFLOP/s", rates),
        ]
    charts.append(_chart("peak memory, process", None, "MB", curves.figure_curves(results, _rss)))
    charts.append(_chart("peak memory, device", None, "MB", curves.figure_curves(results, _device)))
    return [chart for chart in charts if any(line["points"] for line in chart["lines"])]


def _chart(figure: str, pass_name: Pass | None, unit: str, lines: Sequence[Curve]) -> dict[str, Any]:
    return {
        "figure": figure,
        "pass": pass_name,
        "unit": unit,
        "lines": [
            {
                "label": printable(line.label),
                "points": [
                    {
                        "x": point.batch,
                        "y": _round(point.middle),
                        "low": _round(point.low),
                        "high": _round(point.high),
                        "ids": point.trial_ids,
                    }
                    for point in line.points
                ],
                "failed": line.failed,
            }
            for line in lines
        ],
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
    """At most `room` of the samples and the steps from one to the next: the lowest and highest of equal stretches.

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


def _rate(pass_name: Pass, result: Result) -> float | None:
    return result.passes[pass_name].gflops_per_s if pass_name in result.passes else None


def _rss(result: Result) -> float | None:
    return result.peak_rss_mb


def _device(result: Result) -> float | None:
    return result.peak_device_mb
