"""The order in which `benchmarks/gpu.sh` measures, which decides what a short run contains."""

from __future__ import annotations

import pytest

from benchmarks.gpu.plan import Grid, points
from tracking.record import Trial
from tracking.schema.device import Device


@pytest.fixture
def trials() -> list[Trial]:
    return list(points(Grid(device=Device(name="gpu", kind="gpu", gpus=1))))


def test_every_point_is_there_once(trials: list[Trial]) -> None:
    assert len(trials) == len({trial.trial_id for trial in trials}) == 7 * 10 * 3 * 2


def test_the_most_informative_points_come_first(trials: list[Trial]) -> None:
    order = [(trial.model, trial.batch, trial.precision, trial.compile) for trial in trials]
    assert {model for model, *_ in order[:7]} == {trial.model for trial in trials}
    assert {point[1:] for point in order[:7]} == {(256, "bfloat16", "graph")}
    assert set(order[7:9]) == {(model, 256, "bfloat16", "xla") for model in ("vgg16", "resnet_v2_50")}
    assert {(batch, compiler) for _, batch, _, compiler in order[9:27]} == {
        (batch, "graph") for batch in (1, 2, 4, 8, 16, 32, 64, 128, 512)
    }
    assert {model for model, *_ in order[9:27]} == {"vgg16", "resnet_v2_50"}
