from __future__ import annotations

import pytest
from hydra import compose

from sweeps.request import grid

pytestmark = pytest.mark.usefixtures("hydra")


def test_each_point_has_its_repeats() -> None:
    points, problems = grid.read(compose("config", ["repeats=2"]), iter([compose("config", ["batch=4"])]))
    assert problems == []
    assert [[(trial.batch, trial.repeat) for trial in repeats] for repeats in points] == [[(32, 0), (32, 1)], [(4, 0)]]


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            "retries=1",
            "retries=2",
            "retries=2: retries applies to the whole sweep, expected one value. Received: 1 and 2.",
        ),
        ("order=grid", "order=interleaved", "Received: grid and interleaved."),
        ("calibrate=true", "calibrate=false", "calibrate=false: calibrate applies to the whole sweep"),
        ("cluster=local", "cluster=ray", "cluster=ray: cluster applies to the whole sweep"),
        ("cluster.cpus=1", "cluster.cpus=2", "cluster.cpus=2: cluster.cpus applies to the whole sweep"),
        ("tracking=csv", "tracking=none", "Received: [csv] and []."),
    ],
)
def test_keys_of_the_whole_sweep_agree_in_all_points(one: str, other: str, message: str) -> None:
    _, problems = grid.read(compose("config", [one]), iter([compose("config", [other])]))
    (sentence,) = problems
    assert message in sentence
