"""Hydra's side of a sweep: a launcher that hands the whole grid to the session, and a sweeper that composes it once."""

# No `from __future__ import annotations` here: Hydra executes plugins before they are in sys.modules, where dataclasses
# would look annotations up.
from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sweeps import session
from sweeps.compose import Composer


@dataclass
class TrialLauncherConf:
    _target_: str = "hydra_plugins.trial_launcher.TrialLauncher"


@dataclass
class GridSweeperConf(BasicSweeperConf):
    _target_: str = "hydra_plugins.trial_launcher.GridSweeper"


ConfigStore.instance().store(group="hydra/launcher", name="trials", node=TrialLauncherConf, provider="sweeps")
ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="sweeps")


class GridSweeper(BasicSweeper):
    """Hydra's grid sweeper without its rehearsal of every composition: the launcher checks the grid as it composes."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        pass


class TrialLauncher(Launcher):
    """Composes each point of the grid and gives them all to the current session; a job's return value is its result."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        self._composer = Composer(hydra_context.config_loader, config)
        self._folder = config.hydra.sweep.dir

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        configs = map(self._composer.compose, job_overrides)
        results = session.current().run(configs, folder=self._folder)
        returns = []
        for overrides, result in zip(job_overrides, results, strict=True):
            done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            done.return_value = result
            returns.append(done)
        return returns
