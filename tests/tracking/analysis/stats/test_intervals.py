from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracking.analysis.stats.samples import SECONDS
from tracking.analysis.stats import intervals


def test_import_loads_neither_numpy_nor_scipy() -> None:
    code = "import sys, tracking.analysis.stats.intervals; print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@given(SECONDS)
@settings(max_examples=40)
def test_mean_interval_holds_the_mean_and_repeats(samples: list[float]) -> None:
    low, high = intervals.mean_interval(samples, resamples=100)
    mean = np.mean(samples)
    assert low <= mean * (1 + 1e-9)
    assert high >= mean * (1 - 1e-9)
    assert (low, high) == intervals.mean_interval(samples, resamples=100)


def process(rng: np.random.Generator, n: int, phi: float) -> list[float]:
    """A first-order process around 1 with standard deviation 0.05."""
    values = [float(rng.standard_normal())]
    for shock in rng.standard_normal(n - 1):
        values.append(phi * values[-1] + math.sqrt(1 - phi**2) * float(shock))
    return [1 + 0.05 * value for value in values]


@pytest.mark.parametrize(("n", "phi", "least"), [(8, 0.0, 0.91), (100, 0.0, 0.93), (300, 0.7, 0.87)])
def test_mean_interval_covers(n: int, phi: float, least: float) -> None:
    rng = np.random.default_rng(13)
    results = [intervals.mean_interval(process(rng, n, phi), resamples=400) for _ in range(600)]
    assert np.mean([low <= 1 <= high for low, high in results]) >= least


@pytest.mark.parametrize(("base", "new"), [(2, 2), (3, 3), (5, 5), (6, 1)])
def test_ratio_interval_covers(base: int, new: int) -> None:
    rng = np.random.default_rng(17)

    def runs(count: int, level: float) -> list[list[float]]:
        return [
            (level * np.exp(0.03 * rng.standard_normal() + 0.05 * rng.standard_normal(25))).tolist()
            for _ in range(count)
        ]

    results = [intervals.ratio_interval(runs(base, 1.0), runs(new, 1.3), resamples=100) for _ in range(800)]
    assert np.mean([low <= 1.3 <= high for _, low, high in results]) >= 0.935


def test_ratio_of_single_runs_assumes_the_run_noise() -> None:
    steps = [1.0 + 0.0001 * i for i in range(40)]
    ratio, low, high = intervals.ratio_interval([steps], [steps])
    assert ratio == 1
    assert math.log(high / low) / 2 == pytest.approx(2.776 * math.sqrt(2) * intervals.RUN_NOISE, rel=0.1)


def test_ratio_of_single_noisy_runs_assumes_that_runs_differ_as_steps_do() -> None:
    rng = np.random.default_rng(23)
    noisy = [np.exp(0.2 * rng.standard_normal(500)).tolist() for _ in range(2)]
    _, low, high = intervals.ratio_interval(noisy[:1], noisy[1:])
    assert math.log(high / low) / 2 == pytest.approx(2.776 * math.sqrt(2) * 0.2, rel=0.15)


@given(st.lists(st.lists(st.floats(0.1, 1), min_size=2, max_size=20), min_size=1, max_size=3), st.floats(0.2, 5))
@settings(max_examples=40)
def test_ratio_scales_and_repeats(runs: list[list[float]], factor: float) -> None:
    scaled = [[factor * sample for sample in run] for run in runs]
    ratio, low, high = intervals.ratio_interval(runs, scaled, resamples=100)
    assert low <= ratio <= high
    assert ratio == pytest.approx(factor)
    assert intervals.ratio_interval(scaled, runs, resamples=100).ratio == pytest.approx(1 / factor)
    assert (ratio, low, high) == intervals.ratio_interval(runs, scaled, resamples=100)


def test_ratio_widens_for_dependent_steps() -> None:
    rng = np.random.default_rng(19)
    dependent = [process(rng, 200, 0.9) for _ in range(2)]
    shuffled = [rng.permutation(run).tolist() for run in dependent]
    _, low, high = intervals.ratio_interval(dependent[:1], dependent[1:])
    _, low_shuffled, high_shuffled = intervals.ratio_interval(shuffled[:1], shuffled[1:])
    assert high / low > high_shuffled / low_shuffled


@pytest.mark.parametrize(("base", "new"), [([], [[1.0]]), ([[1.0]], [[]]), ([[1.0]], [[0.0]])])
def test_ratio_of_nothing_is_an_error(base: list[list[float]], new: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one run per side, each with positive step times"):
        intervals.ratio_interval(base, new)
