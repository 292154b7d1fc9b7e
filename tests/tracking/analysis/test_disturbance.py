from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.records import make_result
from tracking.analysis import disturbance
from tracking.analysis.disturbance import side_of
from tracking.record import Result


def run(*reasons: str, evidence: Mapping[str, float] | None = None, cores: object = (0, 1), **fields: object) -> Result:
    """One run of a forward pass with these reasons to doubt it, on two cores."""
    result = make_result(
        passes=("forward",),
        quality=tuple(f"{reason} (forward)" for reason in reasons),
        host={"hostname": "a", "cores": cores},
        **fields,  # type: ignore[arg-type]
    )
    return replace(result, passes={"forward": replace(result.passes["forward"], evidence=evidence or {})})


@pytest.mark.parametrize(
    ("reason", "evidence", "slowdown"),
    [
        ("contention: others had 5% of the cores", {"others_share": 0.05}, 1 / 0.9),
        ("contention: others had 30% of the cores", {"others_share": 0.3}, 2.0),
        ("contention: the hypervisor took 20% of the cores", {"others_share": 0.0, "steal_share": 0.2}, 1 / 0.6),
        ("contention: others had 75% of the cores", {"others_share": 0.75}, 4.0),
        ("contention: others had 100% of the cores", {"others_share": 1.0}, 10.0),
        ("contention: others had 5% of the cores", {}, 2.0),
        ("neighbours: others kept 1.0 cores of the machine busy", {"others_cores": 1.0}, 1.025),
        ("swapping: 12 pages", {}, 10.0),
        ("throttling: 3 times", {}, 2.0),
        ("too short to tell: 0.02 s timed", {}, 2.0),
        ("frequency: +25% over the run", {"mhz_before": 2000.0, "mhz_after": 2500.0}, 1.25),
        ("frequency: -20% over the run", {"mhz_before": 2500.0, "mhz_after": 2000.0}, 1.25),
        ("clock: the GPU fell", {"gpu_sm_mhz_before": 1800.0, "gpu_sm_mhz_min": 1200.0}, 1.5),
        ("foreign: 2 other processes on the GPU", {"gpu_foreign_processes": 2.0}, 3.0),
        ("drift: +5% over the run", {}, 1.0),
    ],
)
def test_evidence_bounds_a_disturbance(reason: str, evidence: Mapping[str, float], slowdown: float) -> None:
    assert side_of([run(reason, evidence=evidence)], "forward").lengthened == pytest.approx(slowdown)


@pytest.mark.parametrize(
    ("cause", "slowdown"), [("gpu_throttled_power_limit", 1.5), ("gpu_throttled_hardware_temperature", 2.0)]
)
def test_two_words_for_one_cause_count_once(cause: str, slowdown: float) -> None:
    evidence = {"gpu_sm_mhz_before": 1800.0, "gpu_sm_mhz_min": 1200.0, cause: 0.8}
    words = "throttled: in 80% of looks", "clock: the GPU fell from 1800 to 1200 MHz"
    assert side_of([run(*words, evidence=evidence)], "forward").lengthened == pytest.approx(slowdown)


def test_cores_are_counted_in_a_journal_and_in_mlflow() -> None:
    for cores in ([0, 1, 2, 3], "[0, 1, 2, 3]"):
        contended = run("contention: others had 10% of the cores", evidence={"others_share": 0.1}, cores=cores)
        assert side_of([contended], "forward").lengthened == pytest.approx(1 / 0.6)


def test_disturbed_runs_are_left_aside_where_two_others_remain() -> None:
    contended = run("contention: others had 40% of the cores", "drift: +9% over the run", mean=0.2)
    fine = [run(repeat=repeat, seed=repeat) for repeat in range(2)]
    side = side_of([contended, *fine, contended], "forward")
    assert side.runs == tuple(result.passes["forward"].step_s for result in fine)
    assert side.left_aside == ("contention", "contention")
    assert (side.doubts, side.lengthened) == ((), 1.0)
    assert side.disturbed
    side = side_of([contended, fine[0], contended], "forward")
    assert len(side.runs) == 3
    assert side.doubts == ("contention and drift",) * 2
    assert side.lengthened == pytest.approx(2 ** (2 / 3))
    assert not side_of(fine, "forward").disturbed


def test_work_that_was_left_out_has_no_bound() -> None:
    above = "above peak: 200% of what the device can do; some of the work was not done"
    assert side_of([run(above)], "forward").shortened == math.inf
    assert side_of([run("work: 20% of the products")], "forward").shortened == math.inf
    beside_others = "above peak: 200% of what the device did while others had 80% of its cores"
    assert side_of([run(beside_others)], "forward").shortened == 1


@pytest.mark.parametrize(
    ("reason", "least", "most"),
    [
        ("hosts: an earlier repeat ran on a, this one on b", 0, 0),
        ("drift: +20% over the run", 0.15, 0.25),
        ("imprecise: median known to ±10%", 0.03, 0.1),
        ("too few steps: 3", disturbance.DOUBTED_RUN_NOISE, disturbance.DOUBTED_RUN_NOISE),
    ],
)
def test_a_single_run_is_off_by_as_much_as_its_doubts(reason: str, least: float, most: float) -> None:
    doubted = run(reason, noise=0.0)
    drifting = tuple(0.1 * (1 + 0.2 * step / 29) for step in range(30))
    doubted = replace(doubted, passes={"forward": replace(doubted.passes["forward"], step_s=drifting)})
    assert least <= side_of([doubted], "forward").lone_noise <= most
    assert side_of([doubted, doubted], "forward").lone_noise == 0


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/trust/verdict_rates.py`, which prints the table in docs/compare.md."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3])
    from benchmarks.trust import verdict_rates

    return verdict_rates


@pytest.mark.parametrize("repeats", [1, 3, 5, 10])
def test_disturbed_equal_sides_are_wrong_at_most_once_in_twenty(rates: ModuleType, repeats: int) -> None:
    for disturbed in rates.DISTURBED:
        counts = rates.verdicts(repeats, disturbed, 0.0, rounds=60)
        assert counts["SLOWER"] + counts["FASTER"] <= 3, (disturbed, counts)


def test_a_doubling_is_found_with_half_of_the_runs_disturbed(rates: ModuleType) -> None:
    for disturbed in rates.DISTURBED:
        for repeats in (5, 10):
            assert rates.verdicts(repeats, disturbed, 1.0, rounds=20)["SLOWER"] == 20, (disturbed, repeats)
        assert rates.verdicts(5, disturbed, 0.2, rounds=20)["SLOWER"] >= 18, disturbed
