"""What step times say: intervals, outliers, drift, whether warm-up has settled, and the ratio of two sets of runs.

Standard library only at import time, because the timed loop of a trial imports it; the bootstraps load NumPy when
called. Nothing here drops a sample: an odd step is marked, never removed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import mul
from statistics import NormalDist, fmean, median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAD_TO_SD = 1.4826
"""Makes the median absolute deviation of normal samples estimate their standard deviation."""
OUTLIER_SDS = 3.5
"""Robust standard deviations from the median beyond which a step is marked (Iglewicz and Hoaglin, 1993)."""
RUN_NOISE = 0.02
"""Relative standard deviation between runs of one trial: the least that is assumed where no repeat shows it."""
RUN_NOISE_FREEDOM = 4
"""Degrees of freedom that this assumption is worth."""


class Interval(NamedTuple):
    low: float
    high: float


class Drift(NamedTuple):
    """A trend over one run."""

    change: float
    """From the first step to the last, as a share of the median; negative when the steps got faster."""
    p_value: float
    matters: bool
    """The trend is significant and large enough to change a conclusion."""


class Ratio(NamedTuple):
    """New over base: above 1, the new side takes longer."""

    ratio: float
    low: float
    high: float


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the median from order statistics: it assumes independent samples and nothing of their distribution.

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

    Steps that resemble their neighbours tell less than as many that do not (Bartlett's factor).
    """
    low, high = median_interval(samples, confidence)
    alike = dependence(samples)
    return (high - low) / 2 / median(samples) * math.sqrt((1 + alike) / (1 - alike))


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


def quantiles(samples: Sequence[float], shares: Sequence[float]) -> tuple[float, ...]:
    """The samples' quantiles at `shares` (0 to 1), by linear interpolation between order statistics; sorts once."""
    ordered = sorted(samples)
    found = []
    for share in shares:
        position = share * (len(ordered) - 1)
        low = min(int(position), len(ordered) - 1)
        high = min(low + 1, len(ordered) - 1)
        part = position - low
        found.append(ordered[low] * (1 - part) + ordered[high] * part)
    return tuple(found)


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
    found = autocorrelation(samples)
    return min(found, 0.95) if found > 2 / math.sqrt(len(samples)) else 0.0


def drift(samples: Sequence[float], least: float = 0.02, significance: float = 0.01) -> Drift:
    """Trend over the run: Theil and Sen's slope, tested as Mann and Kendall do, on medians of up to 50 equal blocks.

    It matters when p < `significance` and the change is at least `least`. The test's variance is widened by what
    lag-1 autocorrelation is left once the trend is taken out, since a slow wander is not a trend. Fewer than 10
    samples show no trend.
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
    """Has the step time stopped falling or rising: is the median of the last `window` steps that of the window before?

    The two may differ by `tolerance`, or by the standard error of their difference where the steps are noisier than
    that. With fewer than two windows of samples: no.
    """
    if len(samples) < 2 * window:
        return False
    before, last = samples[-2 * window : -window], samples[-window:]
    error = MAD_TO_SD * math.hypot(mad(before), mad(last)) * math.sqrt(math.pi / 2 / window)
    return abs(median(last) - median(before)) <= max(tolerance * abs(median(before)), error)


def noise_stopped_shrinking(widths: Sequence[float], least: int = 60, fall: float = 0.05) -> bool:
    """Has more timing ceased to narrow the interval? `widths`: its relative width after each step so far.

    Independent samples narrow it with the square root of their number: averaged over the last third of the steps it is
    then 0.77 of what it was over the third before. The noise has stopped shrinking when that fall is less than `fall`,
    because the machine's state wanders and further steps tell of another state. Never before `least` steps. The idea
    is that of nvbench's criterion on the relative standard deviation.
    """
    n = len(widths)
    if n < least:
        return False
    before, last = widths[n // 3 : 2 * n // 3], widths[2 * n // 3 :]
    return fmean(last) > (1 - fall) * fmean(before)


def mean_interval(samples: Sequence[float], confidence: float = 0.95, seed: int = 0, resamples: int = 1000) -> Interval:
    """Interval of the mean by the bootstrap; one sample gives itself twice.

    Blocks of neighbouring steps are resampled where steps depend on each other, and where there are more than 200,
    so that the cost stays near a millisecond. The percentiles are moved outwards as far as Student's t reaches beyond
    the normal, without which a bootstrap of few samples is too narrow (Hesterberg, 2015).
    """
    import numpy as np

    values = np.asarray(samples, dtype=float)
    if len(values) < 2 or values.min() == values.max():
        return Interval(float(values.min()), float(values.max()))
    length = max(_block_length(samples), math.ceil(len(values) / 200))
    count = max(2, len(values) // length)
    blocks = np.array([part.mean() for part in np.array_split(values, count)])
    rng = np.random.default_rng(seed)
    middle = values.mean()
    means = middle + (blocks - middle)[rng.integers(count, size=(resamples, count))].mean(axis=1)
    tail = NormalDist().cdf(-_t_quantile(count - 1, confidence) * math.sqrt(count / (count - 1)))
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(min(low, middle)), float(max(high, middle)))


def ratio_interval(
    base: Sequence[Sequence[float]],
    new: Sequence[Sequence[float]],
    seed: int = 0,
    apart: float = 0.0,
    lone_noise: tuple[float, float] = (0.0, 0.0),
    sweep_noise: float = 0.0,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Ratio:
    """Ratio new / base of the typical step time with its interval, from the spread of runs and of the steps in them.

    Each argument holds one sequence of seconds a run. A side's figure is the geometric mean of its runs' medians, so
    that exchanging the sides inverts the result. The interval is the logarithm of the ratio +/- t times its standard
    error, t from Student's distribution with (runs - 2) degrees of freedom. A side's variance is that between runs,
    pooled over both sides, or that of its steps where it is larger: the bootstrap of the runs' medians, in blocks where
    the steps' lag-1 autocorrelation exceeds 2 / sqrt(n). One run a side cannot show how much runs differ: they are then
    assumed to differ as much as the steps of a run do (from their 10% and 90% quantiles), at least by `RUN_NOISE`.
    `lone_noise` is the least relative standard deviation of each side's run where it is the only one: its own, if it
    is doubted, for which the repeats of the other side do not speak.
    `apart` and `sweep_noise` are for sides measured at different times: how much the machine's state differs from one
    to the other, as a share of the spread between runs, and at least as a share of the step time itself. The latter is
    a known deviation, so it takes the normal quantile.

    Raises ValueError for an empty side or run, or a time that is not positive.
    """
    import numpy as np

    sides = [[np.asarray(run, dtype=float) for run in side] for side in (base, new)]
    if not all(sides) or not all(len(run) and run.min() > 0 for side in sides for run in side):
        raise ValueError("expected at least one run a side, each with positive step times")
    rng = np.random.default_rng(seed)
    middles = [np.log([np.median(run) for run in side]) for side in sides]
    freedom = sum(len(side) - 1 for side in sides)
    if freedom:
        between = sum(float(((m - m.mean()) ** 2).sum()) for m in middles) / freedom
    else:
        between = max(RUN_NOISE**2, fmean(_step_noise(side[0]) ** 2 for side in sides))
    variance = 0.0
    for side, lone in zip(sides, lone_noise, strict=True):
        medians = [np.log(_resampled_medians(run, rng, resamples)) for run in side]
        steps = float(np.mean(medians, axis=0).var())
        spread = between if len(side) > 1 else max(between, lone**2)
        # Measured medians hold the steps' noise already; an assumed spread does not.
        variance += max(spread / len(side), steps) if freedom else spread + steps
        variance += apart**2 * spread
    centre = float(middles[1].mean() - middles[0].mean())
    reach = math.hypot(
        math.sqrt(variance) * _t_quantile(freedom or RUN_NOISE_FREEDOM, confidence),
        math.sqrt(2) * sweep_noise * NormalDist().inv_cdf((1 + confidence) / 2),
    )
    return Ratio(math.exp(centre), math.exp(centre - reach), math.exp(centre + reach))


def _resampled_medians(
    run: NDArray[np.float64], rng: np.random.Generator, resamples: int, at_once: int = 2_000_000
) -> NDArray[np.float64]:
    """Medians of `resamples` circular block resamples of one run, as many at once as memory should hold."""
    import numpy as np

    n = len(run)
    length = _block_length(run.tolist())
    if length == 1:  # The median of n uniform ranks has a beta distribution: no need to draw them all.
        ordered: NDArray[np.float64] = np.sort(run)
        ranks = rng.beta((n + 1) / 2, (n + 1) / 2, size=resamples) * n
        return ordered[np.minimum(ranks.astype(np.intp), n - 1)]
    medians = []
    for start in range(0, resamples, max(1, at_once // n)):
        rows = min(resamples - start, max(1, at_once // n))
        first = rng.integers(n, size=(rows, math.ceil(n / length), 1))
        places = ((first + np.arange(length)) % n).reshape(rows, -1)[:, :n]
        medians.append(np.median(run[places], axis=1))
    return np.concatenate(medians)


def _step_noise(run: NDArray[np.float64]) -> float:
    """Standard deviation of the steps' logarithms, were they normal, from their 10% and 90% quantiles."""
    low, high = quantiles(run.tolist(), (0.1, 0.9))
    return math.log(high / low) / (2 * NormalDist().inv_cdf(0.9))


def _block_length(samples: Sequence[float]) -> int:
    """Steps a bootstrap block: 1 for independent steps, else Carlstein's (1986) optimum for a first-order process."""
    n = len(samples)
    r = dependence(samples)
    if not r:
        return 1
    best: float = (math.sqrt(6) * r / (1 - r * r)) ** (2 / 3) * n ** (1 / 3)
    return max(1, min(n // 4, math.ceil(best)))


def _t_quantile(freedom: int, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))
