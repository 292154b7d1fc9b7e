"""What `benchmarks/gpu.sh` measures first: the order decides what a short run has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracking.record import Device, Trial

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from gpu_plan import Grid, points

    return list(points(Grid(device=Device(name="gpu", kind="gpu", gpus=1))))


def test_every_point_is_there_once(trials: list[Trial]) -> None:
    assert len(trials) == len({trial.trial_id for trial in trials}) == 7 * 10 * 3 * 2


def test_the_most_telling_points_come_first(trials: list[Trial]) -> None:
    told = [(trial.model, trial.batch, trial.precision, trial.compile) for trial in trials]
    assert {model for model, *_ in told[:7]} == {trial.model for trial in trials}
    assert {point[1:] for point in told[:7]} == {(256, "bfloat16", "graph")}
    assert set(told[7:9]) == {(model, 256, "bfloat16", "xla") for model in ("vgg16", "resnet_v2_50")}
    assert {(batch, compiler) for _, batch, _, compiler in told[9:27]} == {
        (batch, "graph") for batch in (1, 2, 4, 8, 16, 32, 64, 128, 512)
    }
    assert {model for model, *_ in told[9:27]} == {"vgg16", "resnet_v2_50"}
