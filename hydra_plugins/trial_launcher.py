"""Hydra's side of a sweep: a launcher that passes the grid to the session, and a sweeper that composes it once."""

# No `from __future__ import annotations` here: Hydra executes plugins before they are in sys.modules, where dataclasses
# would look annotations up.
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sweeps import session
from sweeps.errors import DispatchError, UsageError
from sweeps.request import objective
from sweeps.request.compose import Composer


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
    """Composes each point of the grid and runs them all in the current session.

    A job returns its results, one per repeat, or the figure that `objective` names; a job that has no such figure
    counts as failed.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        HydraConfig.instance().set_config(config)  # for `${hydra:job.name}` and the like in values
        self._composer = Composer(hydra_context.config_loader, config)
        self._folder = config.hydra.sweep.dir
        self._objective: str | None = config.objective
        sweeper = str(config.hydra.sweeper.get("_target_"))
        if self._objective is None and not sweeper.endswith(("GridSweeper", "BasicSweeper")):
            expected = "expected the figure that this sweeper optimises, e.g. forward/images_per_s"
            raise UsageError([f"objective: {expected}. Received: none, with {sweeper.rpartition('.')[2]}."])

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        # Hydra's own sweeper writes the whole config there, with the password that an address may hold.
        Path(self._folder, "multirun.yaml").unlink(missing_ok=True)
        configs = map(self._composer.compose, job_overrides)
        results = session.current().run(configs, folder=self._folder)
        returns = []
        for overrides, result in zip(job_overrides, results, strict=True):
            done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            done.return_value = result if self._objective is None else objective.value(result, self._objective)
            if self._objective is not None and math.isnan(done.return_value):
                # Any figure would be wrong; what to do about a failed job is for the sweeper to decide.
                cause = f"{' '.join(overrides)}: no {self._objective} to optimise"
                cause += "; hydra.sweeper.max_failure_rate=1 would let the sweep go on"
                done.status, done.return_value = JobStatus.FAILED, DispatchError(cause)
            returns.append(done)
        return returns
