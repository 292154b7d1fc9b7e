"""What a session refuses before anything has started."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose

from sweeps.errors import UsageError
from sweeps.process.interrupts import Interrupts
from sweeps.screen.terminal import Terminal
from sweeps.session import Session
from sweeps.typed.arguments import Arguments
from sweeps.worker.forkserver import LastingServer

NONE = Arguments(program="sweeps/run.py", words=())


pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "problems"),
    [
        (["cluster.cpus=0"], ["cluster.cpus=0: expected at least 1. Received: 0."]),
        (["cluster.gpus=-1", "device=gpu"], ["cluster.gpus=-1: expected at least 0. Received: -1."]),
        (["cluster.cpus=9999"], ["cluster.cpus=9999: expected between 1 and "]),
        (["cluster=ray", "cluster.wait_s=nan", "batch=0"], ["batch=0: ", "cluster.wait_s=nan: expected a number of"]),
    ],
)
def test_a_cluster_with_wrong_options_is_not_contacted(
    overrides: list[str], problems: list[str], tmp_path: Path
) -> None:
    home = tmp_path / "multirun" / "day" / "time"
    with Session(Terminal(), Interrupts(), LastingServer(), NONE) as session, pytest.raises(UsageError) as raised:
        session.run([compose("config", ["model=tiny", *overrides])], str(home))
    assert len(raised.value.problems) == len(problems), raised.value.problems
    for problem, sentence in zip(raised.value.problems, problems, strict=True):
        assert problem.startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_points_of_an_optimising_sweep_agree_on_what_the_whole_sweep_has_once(tmp_path: Path) -> None:
    alike = ["model=tiny", "objective=forward/images_per_s"]
    configs = [compose("config", [*alike, *own]) for own in (["retries=1"], ["retries=2"])]
    with Session(Terminal(), Interrupts(), LastingServer(), NONE) as session, pytest.raises(UsageError) as raised:
        session.run(configs, str(tmp_path / "sweep"))
    assert raised.value.problems == [
        "retries=2: retries applies to the whole sweep, expected one value. Received: 1 and 2."
    ]
    assert not (tmp_path / "sweep" / "plan.json").exists()


def test_a_plan_is_of_all_points_or_of_none(tmp_path: Path) -> None:
    alike = ["model=tiny", "objective=forward/images_per_s", "dry_run=true"]
    configs = [compose("config", [*alike, batch]) for batch in ("batch=1", "batch=0")]
    with Session(Terminal(), Interrupts(), LastingServer(), NONE) as session, pytest.raises(UsageError) as raised:
        session.run(configs, str(tmp_path / "sweep"))
    assert raised.value.problems[0].startswith("batch=0: expected at least 1")
    assert not (tmp_path / "sweep" / "plan.json").exists()
