from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from hydra_plugins.trial_launcher import TrialLauncher
from sweeps import session
from sweeps.errors import DispatchError
from tests.support.records import make_result
from tracking.record import Result


class Answering:
    """A session that knows the answers."""

    def __init__(self, answers: list[list[Result]]) -> None:
        self.answers = answers
        self.batches: list[int] = []

    def run(self, configs: Iterable[DictConfig], folder: str) -> list[list[Result]]:
        assert folder.startswith("multirun/")
        for config in configs:
            self.batches.append(config.batch)
            assert config.tracking.experiment == folder
        return self.answers


@pytest.fixture
def context(hydra: ConfigLoader) -> HydraContext:
    return HydraContext(config_loader=hydra, callbacks=Callbacks())


def launch(context: HydraContext, objective: str | None, answers: list[list[Result]]) -> Sequence[JobReturn]:
    config = context.config_loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    with open_dict(config):
        config.objective = objective
    launcher = TrialLauncher()
    launcher.setup(hydra_context=context, task_function=lambda _: None, config=config)
    answering = Answering(answers)
    token = session._current.set(answering)  # type: ignore[arg-type]
    try:
        named = "tracking.experiment=${hydra:sweep.dir}"
        done = launcher.launch([[named, "batch=3"], [named, "batch=5"]], 0)
    finally:
        session._current.reset(token)
    assert answering.batches == [3, 5]
    return done


def test_a_job_returns_its_results(context: HydraContext) -> None:
    answers = [[make_result(batch=3)], [make_result(batch=5, status="oom")]]
    done = launch(context, None, answers)
    assert [job.return_value for job in done] == answers


def test_a_job_returns_its_objective_and_has_failed_without_one(context: HydraContext) -> None:
    good = make_result(batch=3)
    first, second = launch(context, "forward/median_s", [[good], [make_result(batch=5, status="oom")]])
    assert first.return_value == good.passes["forward"].median_s
    assert second.status == JobStatus.FAILED
    with pytest.raises(DispatchError, match="batch=5: no forward/median_s to optimise"):
        _ = second.return_value
