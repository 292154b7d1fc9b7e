"""The figures of a timed pass, one row each: name, unit, direction, format and where they come from.

A new figure takes a property of `tracking.schema.measurement.Measurement` and a row in `METRICS`; the results table,
MLflow, `objective=` and, with `shown`, the terminal read this table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tracking.analysis.samples import Kind, Samples, samples_of
from tracking.record import Result
from tracking.schema.measurement import Measurement
from tracking.text.units import seconds_unit

MOST_METRICS = 5
"""Figures of a task that a table for people shows; the files and MLflow have all of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """One figure of a pass."""

    name: str
    """The column of the results table, and the last part of the MLflow key."""
    unit: str
    """`{samples}` stands for what the samples are: images, or samples of another kind."""
    heading: str = ""
    """What tables for people call it; empty: its unit on the terminal, its name in the report."""
    better: Literal["lower", "higher"]
    value: Callable[[Measurement, Samples], float | None]
    """From a measurement and the samples of its batch; None where it was not measured."""
    of_process: bool = False
    """The process has it, not the pass: MLflow and `objective=` have the highest of the passes, as `memory/NAME`."""
    text: Callable[[float, Measurement], str] | None = None
    """How the terminal shows it; None: with four digits."""
    shown: bool = False
    """Whether the terminal's table and MLflow's list of runs have a column of it for each pass that has the figure."""

    def key(self, pass_name: str = "") -> str:
        """The MLflow key, e.g. `forward/mean_s`; of a figure of the process, whichever pass: `memory/peak_rss_mb`."""
        return f"memory/{self.name}" if self.of_process else f"{pass_name}/{self.name}"

    def unit_for(self, kind: Kind) -> str:
        """The unit of trials with samples of this kind, e.g. `images/s`."""
        return self.unit.format(samples=kind)

    def text_of(self, measurement: Measurement, samples: Samples) -> str:
        """The figure as the terminal shows it; empty where it was not measured."""
        value = self.value(measurement, samples)
        if value is None:
            return ""
        return self.text(value, measurement) if self.text else f"{value:.4g}"

    def measured(self, results: Iterable[Result]) -> bool:
        """Whether any pass of these results has the figure."""
        return any(
            self.value(measurement, samples_of(result)) is not None
            for result in results
            for measurement in result.passes.values()
        )


def spread(measurement: Measurement) -> str:
    """Mean and standard deviation of a step in the unit that suits the mean, e.g. `468 ± 18 ms`."""
    mean, sd = measurement.mean_s, measurement.sd_s
    factor, unit = seconds_unit(mean)
    # The deviation's second digit is the last that means anything.
    digits = 1 - math.floor(math.log10(sd * factor)) if sd else 2
    digits = min(max(digits, 0), 3)
    return f"{mean * factor:.{digits}f} ± {sd * factor:.{digits}f} {unit}"


def _tokens_per_s(measurement: Measurement, samples: Samples) -> float | None:
    return None if samples.tokens is None else samples.tokens / measurement.mean_s


def _rate(value: float, _measurement: Measurement) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


METRICS: tuple[Metric, ...] = (
    Metric(
        name="mean_s",
        unit="s",
        better="lower",
        value=lambda m, _: m.mean_s,
        text=lambda _, m: spread(m),
        shown=True,
    ),
    Metric(name="sd_s", unit="s", better="lower", value=lambda m, _: m.sd_s),
    Metric(name="median_s", unit="s", better="lower", value=lambda m, _: m.median_s),
    Metric(name="p90_s", unit="s", better="lower", value=lambda m, _: m.p90_s),
    Metric(name="p99_s", unit="s", better="lower", value=lambda m, _: m.p99_s),
    Metric(
        name="images_per_s",
        unit="{samples}/s",
        better="higher",
        value=lambda m, samples: samples.count / m.mean_s,
        text=_rate,
        shown=True,
    ),
    Metric(
        name="tokens_per_s",
        unit="tokens/s",
        heading="tokens/s",
        better="higher",
        value=_tokens_per_s,
        text=_rate,
        shown=True,
    ),
    Metric(name="first_call_s", unit="s", better="lower", value=lambda m, _: m.first_call_s),
    Metric(name="peak_rss_mb", unit="MB", better="lower", value=lambda m, _: m.peak_rss_mb, of_process=True),
    Metric(name="peak_device_mb", unit="MB", better="lower", value=lambda m, _: m.peak_device_mb, of_process=True),
    Metric(name="gflops_per_s", unit="GFLOP/s", better="higher", value=lambda m, _: m.gflops_per_s),
)
"""Every figure, in the order of the results table's columns."""


def figures_of(result: Result) -> dict[str, float]:
    """Every figure that was measured, by MLflow key: those of each pass, then those of the process."""
    of_passes: dict[str, float] = {}
    of_process: dict[str, float] = {}
    samples = samples_of(result)
    for pass_name, measurement in result.passes.items():
        for metric in METRICS:
            value = metric.value(measurement, samples)
            if value is None:
                continue
            key = metric.key(pass_name)
            if metric.of_process:
                of_process[key] = max(value, of_process.get(key, value))
            else:
                of_passes[key] = value
    return of_passes | of_process


def lower_is_better(key: str) -> bool:
    """Whether the lowest of these figures is the best: by its row, or of a task's figure by the end of its name."""
    row = next((metric for metric in METRICS if metric.name == key.rpartition("/")[2]), None)
    if row is not None:
        return row.better == "lower"
    return key.endswith(("loss", "_s", "_mb", "wait_share", "unreadable")) and not key.endswith("per_s")


def task_text(key: str, value: float | None) -> str:
    """A task's figure as people read it: shares in percent, four digits."""
    if value is None:
        return ""
    return f"{value:.1%}" if key.endswith(("accuracy", "share")) else f"{value:.4g}"
