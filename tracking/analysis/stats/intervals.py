"""Intervals from several runs or by resampling: of a mean, and of the ratio of two sides.

SciPy is imported by the functions that use it: `tracking/compare.py` and the report need it, the start of a sweep does
not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from tracking.analysis.stats.steps import Interval, dependence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RUN_NOISE = 0.02
"""Relative standard deviation between runs of one trial: the least that is assumed where no repeat shows it."""
RUN_NOISE_FREEDOM = 4
"""Degrees of freedom that this assumption is worth."""


class Ratio(NamedTuple):
    """New over base: above 1, the new side takes longer."""

    ratio: float
    low: float
    high: float


def mean_interval(samples: Sequence[float], confidence: float = 0.95, seed: int = 0, resamples: int = 1000) -> Interval:
    """Interval of the mean by the percentile bootstrap; both ends are the sample where there is only one.

    Blocks of neighbouring steps are resampled where steps depend on each other, and where there are more than 200, so
    that the cost stays near a millisecond. The percentiles are moved outwards as far as Student's t reaches beyond the
    normal distribution: a bootstrap of few samples would be too narrow (Hesterberg, 2015).
    """
    import numpy as np
    from scipy.special import ndtr, stdtrit

    values = np.asarray(samples, dtype=float)
    if len(values) < 2 or values.min() == values.max():
        return Interval(float(values.min()), float(values.max()))
    length = max(_block_length(samples), math.ceil(len(values) / 200))
    count = max(2, len(values) // length)
    blocks = np.array([part.mean() for part in np.array_split(values, count)])
    middle = float(values.mean())
    away = blocks - middle
    scale = float(np.abs(away).max())
    if not scale:
        return Interval(middle, middle)
    tail = ndtr(-stdtrit(count - 1, (1 + confidence) / 2) * math.sqrt(count / (count - 1)))
    # Not `scipy.stats.bootstrap`, which does the same: importing it takes a second at the end of every sweep.
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    low, high = np.quantile((away / scale)[draws].mean(axis=1), (tail, 1 - tail))
    return Interval(float(middle + scale * min(low, 0.0)), float(middle + scale * max(high, 0.0)))


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

    Each side is a sequence of runs, each run a sequence of seconds. A side's figure is the geometric mean of its runs'
    medians, so that exchanging the sides inverts the result. The interval is the logarithm of the ratio +/- t times its
    standard error, t from Student's distribution with (runs - 2) degrees of freedom. A side's variance is that between
    runs, pooled over both sides, or that of its steps where it is larger: the bootstrap of the runs' medians, in blocks
    where the steps' lag-1 autocorrelation exceeds 2 / sqrt(n). With a single run per side nothing shows how much runs
    differ: they are then assumed to differ as much as the steps of a run do (from their 10% and 90% quantiles), and at
    least by `RUN_NOISE`. `lone_noise` is the least relative standard deviation to assume of each side's run where it is
    the only one: a doubted run may be further off than the repeats of the other side show.

    `apart` and `sweep_noise` are for sides measured at different times: how much the machine's state differs between
    them, as a share of the spread between runs, and at least as a share of the step time itself. The latter is a known
    deviation, so it takes the normal quantile.

    Raises ValueError for an empty side or run, or a time that is not positive.
    """
    import numpy as np
    from scipy.special import ndtri, stdtrit

    sides = [[np.asarray(run, dtype=float) for run in side] for side in (base, new)]
    if not all(sides) or not all(len(run) and run.min() > 0 for side in sides for run in side):
        raise ValueError("expected at least one run per side, each with positive step times")
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
        math.sqrt(variance) * stdtrit(freedom or RUN_NOISE_FREEDOM, (1 + confidence) / 2),
        math.sqrt(2) * sweep_noise * ndtri((1 + confidence) / 2),
    )
    return Ratio(math.exp(centre), math.exp(centre - reach), math.exp(centre + reach))


def _resampled_medians(
    run: NDArray[np.float64], rng: np.random.Generator, resamples: int, at_once: int = 2_000_000
) -> NDArray[np.float64]:
    """Medians of `resamples` circular block resamples of one run, drawn in batches of `at_once` samples at most."""
    import numpy as np

    n = len(run)
    length = _block_length(run.tolist())
    if length == 1:  # The median of n uniform ranks has a beta distribution, so there is no need to draw them all.
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
    """Standard deviation of the steps' logarithms, taken as normal, from their 10% and 90% quantiles."""
    import numpy as np
    from scipy.special import ndtri

    low, high = np.quantile(run, (0.1, 0.9))
    return float(np.log(high / low) / (2 * ndtri(0.9)))


def _block_length(samples: Sequence[float]) -> int:
    """Steps per bootstrap block: 1 for independent steps, else Carlstein's (1986) optimum for a first-order process."""
    n = len(samples)
    r = dependence(samples)
    if not r:
        return 1
    best: float = (math.sqrt(6) * r / (1 - r * r)) ** (2 / 3) * n ** (1 / 3)
    return max(1, min(n // 4, math.ceil(best)))
