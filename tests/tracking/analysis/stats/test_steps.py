from __future__ import annotations

import bisect
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, median_abs_deviation, quantile_test, theilslopes

from tests.tracking.analysis.stats.samples import SECONDS
from tracking.analysis.stats import steps as stats


def test_import_loads_neither_numpy_nor_scipy() -> None:
    heavy = ("numpy", "scipy", "matplotlib")
    code = f"import sys, tracking.analysis.stats.steps; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@given(SECONDS)
def test_median_interval_holds_the_median_and_lies_within_the_samples(samples: list[float]) -> None:
    low, high = stats.median_interval(samples)
    assert min(samples) <= low <= np.median(samples) <= high <= max(samples)
    assert stats.median_interval_sorted(sorted(samples)) == (low, high)


@pytest.mark.parametrize("n", [*range(1, 40), 100, 199, 200])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_median_interval_is_scipys(n: int, confidence: float) -> None:
    samples = list(range(n))
    expected: Any = quantile_test(samples, q=0, p=0.5).confidence_interval(confidence)
    low, high = stats.median_interval(samples, confidence)
    if math.isnan(expected.low) or math.isnan(expected.high):
        assert (low, high) == (0, n - 1)
    else:
        assert (low, high) == (expected.low, expected.high)


@pytest.mark.parametrize("n", [201, 202, 1000, 9999])
def test_median_interval_of_many_samples_is_within_one_rank_of_scipys(n: int) -> None:
    expected: Any = quantile_test(range(n), q=0, p=0.5).confidence_interval(0.95)
    low, high = stats.median_interval(range(n))
    assert abs(low - expected.low) <= 1
    assert abs(high - expected.high) <= 1


@pytest.mark.parametrize("n", [6, 11, 50, 400])
def test_median_interval_covers_as_it_says(n: int) -> None:
    rng = np.random.default_rng(7)
    intervals = [stats.median_interval(np.exp(rng.standard_normal(n)).tolist()) for _ in range(1500)]
    assert np.mean([low <= 1 <= high for low, high in intervals]) >= 0.935


def test_sorted_form_serves_a_loop() -> None:
    ordered: list[float] = []
    for sample in (0.5, 0.3, 0.4, 0.9, 0.1, 0.45, 0.35):
        bisect.insort(ordered, sample)
        assert stats.median_interval_sorted(ordered) == stats.median_interval(ordered)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"at least one sample. Received: none"):
        stats.median_interval([])


def test_confidence_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1. Received: 95"):
        stats.median_interval([1.0, 2.0], 95)


@given(SECONDS)
def test_mad_is_scipys(samples: list[float]) -> None:
    assert stats.mad(samples) == pytest.approx(median_abs_deviation(samples))


@given(SECONDS)
def test_no_statistic_fails_on_odd_samples(samples: list[float]) -> None:
    marked = stats.outliers(samples)
    assert len(marked) < len(samples) / 2
    assert -1.001 <= stats.autocorrelation(samples) <= 1.001
    assert 0 <= stats.drift(samples).p_value <= 1
    assert stats.settled([*samples, *[samples[-1]] * 10])  # whatever came before two windows of one value


def test_outliers_are_the_slow_steps() -> None:
    rng = np.random.default_rng(3)
    samples = (0.1 * (1 + 0.02 * rng.standard_normal(100))).tolist()
    samples[17] = 0.2
    samples[60] = 0.05
    assert {17, 60} <= set(stats.outliers(samples))
    assert len(stats.outliers(samples)) <= 4


def test_one_slow_step_among_equal_ones_is_an_outlier() -> None:
    assert stats.outliers([1.0] * 30 + [3.0]) == (30,)
    assert stats.outliers([1.0] * 30) == ()
    assert stats.outliers([1.0] * 18 + [2.0] * 12) == ()  # two modes are not outliers of each other


def test_steps_within_one_percent_are_never_outliers() -> None:
    assert stats.outliers([1.0, 1.00001] * 20 + [1.005]) == ()


@pytest.mark.parametrize("lag", [1, 2, 5])
def test_autocorrelation_is_numpys(lag: int) -> None:
    samples = np.cumsum(np.random.default_rng(0).standard_normal(80))
    away = samples - samples.mean()
    expected = (away[lag:] * away[:-lag]).sum() / (away**2).sum()
    assert stats.autocorrelation(samples.tolist(), lag) == pytest.approx(expected)


def test_autocorrelation_of_too_few_or_constant_samples_is_zero() -> None:
    assert stats.autocorrelation([1.0]) == 0
    assert stats.autocorrelation([0.1] * 9) == 0


@given(st.lists(st.floats(0.1, 10), min_size=10, max_size=50, unique=True))
@settings(max_examples=50)
def test_drift_is_theil_sen_and_mann_kendall(samples: list[float]) -> None:
    trend = stats.drift(samples)
    slope = theilslopes(samples).slope
    tau = kendalltau(range(len(samples)), samples)
    assert trend.change == pytest.approx(slope * (len(samples) - 1) / np.median(samples), abs=1e-9)
    if trend.p_value < 0.01:  # the widened variance and the continuity correction only ever raise p
        assert tau.pvalue < 0.02


def test_drift_needs_both_significance_and_size() -> None:
    rng = np.random.default_rng(1)
    noise = 0.01 * rng.standard_normal(200)
    assert stats.drift((1 + noise + np.linspace(0, 0.1, 200)).tolist()).matters
    assert stats.drift((1 + noise - np.linspace(0, 0.1, 200)).tolist()).change == pytest.approx(-0.1, abs=0.02)
    small = stats.drift((1 + noise / 10 + np.linspace(0, 0.01, 200)).tolist())
    assert small.p_value < 0.01
    assert not small.matters
    assert not stats.drift((1 + noise).tolist()).matters
    assert stats.drift([1.0, 2.0, 3.0]) == (0, 1, False)


def test_drift_rarely_sees_a_trend_in_a_wander() -> None:
    rng = np.random.default_rng(5)
    false = 0
    for _ in range(200):
        wander = [0.0]
        for _ in range(99):
            wander.append(0.8 * wander[-1] + 0.03 * float(rng.standard_normal()))
        false += stats.drift([1 + value for value in wander]).matters
    assert false <= 8


def test_settled() -> None:
    assert stats.settled([3.0, 1.2] + [1.0] * 10)
    assert not stats.settled([1.0] * 9)  # fewer than two windows
    assert not stats.settled([2.0 * 0.9**i for i in range(12)])
    noisy = (1 + 0.1 * np.random.default_rng(2).standard_normal(40)).tolist()
    assert any(stats.settled(noisy[:n]) for n in range(10, 20))


def widths(samples: list[float]) -> list[float]:
    ordered: list[float] = []
    relative = []
    for sample in samples:
        bisect.insort(ordered, sample)
        low, high = stats.median_interval_sorted(ordered)
        relative.append((high - low) / 2 / ordered[len(ordered) // 2])
    return relative


def test_noise_of_a_wandering_machine_stops_shrinking_and_independent_noise_does_not() -> None:
    rng = np.random.default_rng(11)
    independent = widths((1 + 0.05 * rng.standard_normal(400)).tolist())
    wandering = widths((1 + 0.005 * np.cumsum(rng.standard_normal(400))).tolist())
    assert not stats.noise_stopped_shrinking(independent)
    assert any(stats.noise_stopped_shrinking(wandering[:n]) for n in range(60, 400))
    assert not stats.noise_stopped_shrinking(wandering[:59])
