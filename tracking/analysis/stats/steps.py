"""Statistics of one run's step times: the median's interval, outliers, drift, whether warm-up has settled.

Written by hand rather than taken from SciPy, because the timed loop of a trial imports this module and the driver calls
it for every result: importing SciPy takes half a second, and its functions take longer per call, with 100 steps
`quantile_test` 400 times as long as `median_interval`, `median_abs_deviation` 20 times as long as `mad`, and
`theilslopes` with `kendalltau` three times as long as `drift`. The tests compare each with SciPy's or NumPy's. Only the
standard library is imported at first; `drift` loads NumPy. No sample is ever dropped: an odd step is marked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import mul
from statistics import NormalDist, fmean, median
from typing import NamedTuple

MAD_TO_SD = 1.4826
"""Makes the median absolute deviation of normal samples estimate their standard deviation."""
OUTLIER_SDS = 3.5
"""Robust standard deviations from the median beyond which a step is marked (Iglewicz and Hoaglin, 1993)."""


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


class Drift(NamedTuple):
    """A trend over one run."""

    change: float
    """From the first step to the last, as a share of the median; negative when the steps got faster."""
    p_value: float
    matters: bool
    """The trend is significant and large enough to change a conclusion."""


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the median from order statistics: assumes independent samples, and nothing about their distribution.

    Its coverage is at least `confidence` from 6 samples on (at 0.95). With fewer, no pair of order statistics reaches
    that and the whole range is returned, which covers with probability 1 - 2**(1 - n).
    """
    return median_interval_sorted(sorted(samples), confidence)


def median_interval_sorted(ordered: Sequence[float], confidence: float = 0.95) -> Interval:
    """`median_interval` of sorted samples, in constant time: for a loop that keeps them sorted with `bisect.insort`."""
    if not ordered:
        raise ValueError("expected at least one sample. Received: none")
    rank = _lower_rank(len(ordered), confidence)
    return Interval(ordered[rank], ordered[-1 - rank])


def median_precision(samples: Sequence[float], confidence: float = 0.95) -> float:
    """Half width of the median's interval as a share of the median.

    Steps that resemble their neighbours hold less information than as many that do not, which widens the interval by
    Bartlett's factor.
    """
    low, high = median_interval(samples, confidence)
    correlation = dependence(samples)
    return (high - low) / 2 / median(samples) * math.sqrt((1 + correlation) / (1 - correlation))


@lru_cache(maxsize=4096)
def _lower_rank(n: int, confidence: float) -> int:
    """The highest index k with P(Binomial(n, 1/2) <= k) <= (1 - confidence) / 2, or 0 where there is none."""
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1. Received: {confidence}")
    tail = (1 - confidence) / 2
    if n > 200:  # The normal approximation is then within one rank of the exact one.
        return max(0, math.floor((n - 1 + NormalDist().inv_cdf(tail) * math.sqrt(n)) / 2))
    below, rank = 0, 0
    for k in range(n // 2 + 1):
        below += math.comb(n, k)
        if below > tail * 2**n:
            break
        rank = k
    return rank


def mad(samples: Sequence[float]) -> float:
    """Median absolute deviation from the median, unscaled."""
    middle = median(samples)
    return median(abs(sample - middle) for sample in samples)


def outliers(samples: Sequence[float]) -> tuple[int, ...]:
    """Indices of samples further than `OUTLIER_SDS` robust standard deviations, and 1%, from the median.

    Where more than half of the samples are equal the MAD is 0, and the mean absolute deviation stands in for it.
    """
    middle = median(samples)
    away = [abs(sample - middle) for sample in samples]
    sd = MAD_TO_SD * median(away) or 1.2533 * fmean(away)
    limit = max(OUTLIER_SDS * sd, 0.01 * abs(middle))
    return tuple(index for index, distance in enumerate(away) if distance > limit)


def autocorrelation(samples: Sequence[float], lag: int = 1) -> float:
    """Correlation of the samples with themselves `lag` steps later, -1 to 1; 0 for constant or too few samples."""
    if len(samples) <= lag:
        return 0.0
    middle = fmean(samples)
    away = [sample - middle for sample in samples]
    scale = max(map(abs, away))
    if scale <= 1e-12 * abs(middle):  # rounding, not variation
        return 0.0
    away = [value / scale for value in away]  # Squares of very large or small samples would not fit a float.
    products: float = sum(map(mul, away[lag:], away))
    squares: float = sum(map(mul, away, away))
    return products / squares


def dependence(samples: Sequence[float]) -> float:
    """How much a step resembles the one before it: the lag-1 autocorrelation where it is significant, else 0.

    At most 0.95, so that what is divided by its complement stays finite.
    """
    correlation = autocorrelation(samples)
    return min(correlation, 0.95) if correlation > 2 / math.sqrt(len(samples)) else 0.0


def drift(samples: Sequence[float], least: float = 0.02, significance: float = 0.01) -> Drift:
    """Trend over the run: Theil and Sen's slope, tested as Mann and Kendall do, on medians of up to 50 equal blocks.

    It matters when p < `significance` and the change is at least `least`. The test's variance is widened by the lag-1
    autocorrelation that is left once the trend is taken out, since a slow wander is not a trend. Fewer than 10 samples
    show no trend.
    """
    import numpy as np

    n = len(samples)
    if n < 10:
        return Drift(0.0, 1.0, False)
    count = min(n, 50)
    blocks = [float(median(samples[n * i // count : n * (i + 1) // count])) for i in range(count)]
    earlier, later = np.triu_indices(count, 1)
    differences = np.take(blocks, later) - np.take(blocks, earlier)
    slope = float(np.median(differences / (later - earlier)))
    score = int(np.sign(differences).sum())
    ties = [blocks.count(value) for value in set(blocks)]
    variance = (count * (count - 1) * (2 * count + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    left = autocorrelation([value - slope * i for i, value in enumerate(blocks)])
    left = min(max(left, 0.0), 0.95)
    z = max(0, abs(score) - 1) / math.sqrt(variance * (1 + left) / (1 - left)) if variance else 0.0
    p_value = 2 * NormalDist().cdf(-z)
    middle = median(blocks)
    change = slope * (count - 1) / abs(middle) if middle else 0.0
    return Drift(change, p_value, p_value < significance and abs(change) >= least)


def settled(samples: Sequence[float], window: int = 5, tolerance: float = 0.02) -> bool:
    """Whether the step time has stopped falling or rising: the last `window` steps have the median of those before.

    The two medians may differ by `tolerance`, or by the standard error of their difference where the steps are noisier
    than that. False with fewer than two windows of samples.
    """
    if len(samples) < 2 * window:
        return False
    before, last = samples[-2 * window : -window], samples[-window:]
    error = MAD_TO_SD * math.hypot(mad(before), mad(last)) * math.sqrt(math.pi / 2 / window)
    return abs(median(last) - median(before)) <= max(tolerance * abs(median(before)), error)


def noise_stopped_shrinking(widths: Sequence[float], least: int = 60, fall: float = 0.05) -> bool:
    """Whether more timing has ceased to narrow the interval; `widths` are its relative widths after each step so far.

    Independent samples narrow it with the square root of their number: averaged over the last third of the steps it is
    then 0.77 of what it was over the third before. The noise has stopped shrinking when it falls by less than `fall`,
    because the machine's state wanders and further steps measure another state. False before `least` steps. The idea
    is that of nvbench's criterion on the relative standard deviation.
    """
    n = len(widths)
    if n < least:
        return False
    before, last = widths[n // 3 : 2 * n // 3], widths[2 * n // 3 :]
    return fmean(last) > (1 - fall) * fmean(before)
