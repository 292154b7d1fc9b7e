"""The timed steps of one pass, and the figures derived from them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar

from tracking.schema.fields import Megabytes, Operations, Seconds, Step, evidence_problem
from tracking.schema.reading import Also, NotEmpty


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The seconds of one pass: first call, warm-up and timed steps, in order, nothing dropped."""

    first_call_s: Seconds
    """Tracing, compilation and the first execution."""
    warmup_s: tuple[Step, ...]
    step_s: Annotated[tuple[Step, ...], NotEmpty()]
    stopped: str
    """Why timing ended: `steps`, `target`, `noise`, `max_seconds` or `max_steps`."""
    peak_rss_mb: Megabytes | None = None
    peak_device_mb: Megabytes | None = None
    flops: Operations | None = None
    """Operations of one step for the whole batch, by the counting rule of `nets.counting.layers`."""
    evidence: Annotated[Mapping[str, float], Also(evidence_problem)] = field(default_factory=dict)
    """Counters of the kernel and the device during the timed steps, e.g. CPU seconds taken by others."""

    WRITTEN_BESIDE: ClassVar[frozenset[str]] = frozenset(
        ("mean_s", "sd_s", "median_s", "p90_s", "p99_s", "images_per_s", "first_call_s")
    )

    def __post_init__(self) -> None:
        if not self.step_s:
            raise ValueError("expected at least one timed step. Received: step_s=()")

    @cached_property
    def mean_s(self) -> float:
        return statistics.fmean(self.step_s)

    @cached_property
    def sd_s(self) -> float:
        """Population standard deviation, as TensorFlow-benchmark articles print it."""
        return statistics.pstdev(self.step_s)

    @cached_property
    def median_s(self) -> float:
        return statistics.median(self.step_s)

    @cached_property
    def p90_s(self) -> float:
        return quantile(self.step_s, 0.90)

    @cached_property
    def p99_s(self) -> float:
        return quantile(self.step_s, 0.99)

    @property
    def gflops_per_s(self) -> float | None:
        """Achieved rate, from the median step."""
        return None if self.flops is None else self.flops / self.median_s / 1e9

    def figures(self, batch: int) -> dict[str, float]:
        """The derived figures by name; `images_per_s` is all images over all timed seconds, so batch / `mean_s`."""
        return {
            "mean_s": self.mean_s,
            "sd_s": self.sd_s,
            "median_s": self.median_s,
            "p90_s": self.p90_s,
            "p99_s": self.p99_s,
            "images_per_s": batch / self.mean_s,
            "first_call_s": self.first_call_s,
        }


def quantile(samples: Sequence[float], q: float) -> float:
    """Linear interpolation between order statistics (NumPy's default, type 7)."""
    ordered = sorted(samples)
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
