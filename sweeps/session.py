"""One sweep from its composed configs to its exit code: request, checks, plan, trials, report.

A session lives as long as the command. Hydra's launcher gives it the grid, at once or, with an optimising sweeper, part
by part; what it needs (fork server, Ray, sinks) starts with the first trial and stops with the session.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweeps.cluster import Site
from sweeps.clusters import kinds
from sweeps.errors import UsageError
from sweeps.identity import remembered, resume
from sweeps.identity import sweep as requests
from sweeps.identity.sweep import Request, without_result
from sweeps.jobs.hand_over import hand_over
from sweeps.jobs.job import BatchJob, HandedOver, Order
from sweeps.machine import host
from sweeps.machine.node import Node
from sweeps.machinery import Machinery
from sweeps.outcome import Outcome
from sweeps.plan import checks, estimate, remarks
from sweeps.plan.ahead import LookAhead
from sweeps.process.interrupts import Interrupts
from sweeps.recorder import Recorder
from sweeps.request import grid, schema
from sweeps.runner import Runner
from sweeps.screen.terminal import Terminal
from sweeps.typed.arguments import Arguments
from sweeps.worker.forkserver import LastingServer
from tracking.folder.journal import PLAN, Journal, JournalError
from tracking.names import trial_names
from tracking.record import Failure, Result, Sweep, Trial

_current: ContextVar[Session] = ContextVar("session")


def current() -> Session:
    """Return the session of this command, for Hydra's launcher."""
    return _current.get()


class Session:
    """Runs every trial that Hydra asks for, into one sweep folder, one journal and one parent run."""

    def __init__(self, terminal: Terminal, interrupts: Interrupts, server: LastingServer, arguments: Arguments) -> None:
        self.terminal = terminal
        self.recorder: Recorder | None = None
        self._arguments = arguments
        self._machinery = Machinery(server, terminal.warn)
        self._ahead = LookAhead(server.address)
        self._runner = Runner(terminal, interrupts)
        self._started_in = Path.cwd()
        self._planned: Sweep | None = None
        self._handed: HandedOver | None = None
        self._token: Token[Session]

    def __enter__(self) -> Session:
        self._token = _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _current.reset(self._token)
        self._machinery.close()
        if self.recorder is not None:
            with self.terminal.working("Drawing plots, writing the report"):
                # Where no result can be written, no plot can.
                self.recorder.finish(self.terminal.warn, draw=kind is not JournalError)
            self.terminal.end(self.recorder)

    def run(self, configs: Iterable[DictConfig], folder: str) -> list[list[Result]]:
        """Run the trials that these configs ask for, and return each config's results, one per repeat.

        Raises UsageError with every problem of every config before anything has started, StoppedError by `fail_fast`,
        JournalError when results can no longer be saved. Once trials have run, and with an optimising sweeper, points
        that cannot run are recorded as `infeasible`, as long as others can run.
        """
        home = Path(folder).absolute()
        try:
            configs = iter(configs)
            first = next(configs)
            if self.recorder is None and (first.objective is None or first.dry_run):
                return self._run(itertools.chain([first], configs), home)
            return self._point_by_point([first, *configs], home)
        finally:
            resume.remove_if_empty(home)

    def outcome(self) -> Outcome:
        """Return the session's outcome so far."""
        sweep = self._planned if self.recorder is None else self.recorder.sweep
        job = None if self._handed is None else self._handed.job
        is_here = sweep is not None and Path(sweep.folder, PLAN).is_file()
        return Outcome(
            exit_code=self._exit_code(),
            sweep_id=sweep.sweep_id if sweep is not None and (is_here or job is not None) else None,
            folder=sweep.folder if sweep is not None and is_here else None,
            job=job,
        )

    def _exit_code(self) -> int:
        """Return 0 if every planned trial is ok, else 1; for a batch job that was waited for, its exit code."""
        if self.recorder is None:
            return 0 if self._handed is None else self._handed.exit_code
        return 0 if self.recorder.all_ok else 1

    def _run(self, configs: Iterator[DictConfig], home: Path) -> list[list[Result]]:
        """Run, show or hand over the sweep of these configs. Raises what `run` raises."""
        first = next(configs)
        cluster = kinds.of_config(first)
        if first.resume is not None and (problems := self._resume_problems(first, configs)):
            raise UsageError(problems)
        if first.resume is not None and isinstance(cluster, BatchJob) and not cluster.shares_files:
            self._hand_over(cluster, first, None)
            return [[]]
        request = self._request(first, configs, home)
        self._planned = request.sweep
        cluster = kinds.of_config(request.config)
        if isinstance(cluster, BatchJob):
            self._hand_over(cluster, request.config, request.sweep)
            return [[] for _ in request.points]
        site = self._machinery.site(cluster, self._started_in)
        with self.terminal.working("Starting"):
            outbox = self._machinery.start(request.tracking, dry_run=request.config.dry_run)
        self._look_ahead(request, site)
        if request.config.dry_run:
            self._show(request, cluster.trials_at_once)
            return [[] for _ in request.points]
        if self.recorder is None:
            self.recorder = Recorder(request.sweep, outbox)
            outbox.open(request.sweep)
        else:
            self.recorder.extend(request.trials)
        return self._results(request, site, self.recorder)

    def _results(self, request: Request, site: Site, recorder: Recorder) -> list[list[Result]]:
        """Run the trials that have no result yet, and return the results of every config."""
        todo = without_result(request.trials, recorder.results, rerun=request.config.rerun is not None)
        self.terminal.plan(recorder.sweep, todo, request.nodes)
        self.terminal.variables(request.nodes)
        if todo:
            server, node = self._machinery.server.address, request.nodes[0]
            self._runner.run(todo, request.config, recorder, site=site, node=node, server=server)
        return [[recorder.results[trial.trial_id] for trial in repeats] for repeats in request.points]

    def _point_by_point(self, configs: Sequence[DictConfig], home: Path) -> list[list[Result]]:
        """Return each config's results for a sweeper: a point that cannot run must not end the sweep of the others.

        Raises UsageError if no point could run so far, or if the configs are not points of one sweep.
        """
        try:
            return self._run(iter(configs), home)
        except UsageError as error:
            if any(grid.unlike(configs[0], cfg) for cfg in configs[1:]):
                raise
            results: list[list[Result] | UsageError] = [error]
        if len(configs) > 1:
            results = []
            for cfg in configs:
                try:
                    results += self._run(iter([cfg]), home)
                except UsageError as error:
                    results.append(error)
        if self.recorder is None:
            raise UsageError(problem for one in results if isinstance(one, UsageError) for problem in one.problems)
        return [
            self._infeasible(cfg, one, self.recorder) if isinstance(one, UsageError) else one
            for cfg, one in zip(configs, results, strict=True)
        ]

    def _infeasible(self, cfg: DictConfig, error: UsageError, recorder: Recorder) -> list[Result]:
        """Record a config's trials as infeasible with the reasons why none of them can run; earlier results stay.

        Raises UsageError if the config describes no trials.
        """
        trials = grid.repeats(schema.read(cfg)[0], cfg)
        recorder.extend(trials)
        failure = Failure(kind="Infeasible", message=" ".join(error.problems))
        for trial in without_result(trials, recorder.results, rerun=False):
            result = Result(
                trial=trial,
                sweep_id=recorder.sweep.sweep_id,
                status="infeasible",
                started_at=time.time(),
                error=failure,
            )
            recorder.record(result)
            self.terminal.warn(f"{trial_names(recorder.sweep.trials)[trial.trial_id]} cannot run: {failure.message}")
        recorder.send()
        return [recorder.results[trial.trial_id] for trial in trials]

    def _resume_problems(self, first: DictConfig, others: Iterator[DictConfig]) -> list[str]:
        """Return what makes no sense with `resume=`; for a sweep on a remote cluster, all other problems too."""
        several = next(others, None) is not None
        problems = resume.problems(first.resume, self._arguments, several=several)
        return problems or ([] if kinds.of_config(first).shares_files else schema.read(first)[1])

    def _request(self, first: DictConfig, others: Iterator[DictConfig], home: Path) -> Request:
        if first.resume is None:
            begun = self.recorder is not None
            return requests.new(first, others, home, self._arguments, self._nodes, begun=begun)
        terminal = self.terminal
        return requests.resumed(
            first, self._arguments, self._nodes, say=terminal.say, warn=terminal.warn, move_to=self._move_to
        )

    def _move_to(self, folder: Path) -> None:
        """Have trials run in the folder that a resumed sweep was started in."""
        self._started_in = folder
        self._machinery.server.move_to(folder)

    def _nodes(self, cfg: DictConfig, trials: Sequence[Trial]) -> tuple[list[Node], list[str]]:
        """Return the nodes that the trials can run on, and the problems that keep the sweep from running there."""
        cluster = kinds.of_config(cfg)
        if not cluster.is_batch and cluster.problems():
            return [], []  # schema.read reports them, and with wrong options no node can be found
        try:
            site = self._machinery.site(cluster, self._started_in)
            nodes, misfits = site.nodes(trials, dry_run=cfg.dry_run)
        except UsageError as error:
            return [], error.problems
        files = cluster.shares_files
        return nodes, [
            *misfits,
            *(checks.problems(trials, nodes, files=files, grows=site.may_grow) if nodes else []),
        ]

    def _look_ahead(self, request: Request, site: Site) -> None:
        """Raise UsageError with every net that cannot be built, and warn of those that may not fit into memory."""
        problems = self._ahead.net_problems(request.trials, flops=request.config.dry_run)
        if not site.checks_imports:  # the trials run here, where their modules are
            problems += self._ahead.import_problems(request.trials)
            if request.config.dry_run and not problems:  # otherwise the user's code is called by the trials only
                problems += self._ahead.users_net_problems(request.trials, flops=True)
        if problems:
            raise UsageError(problems)
        for warning in remarks.of_saved_models(request.trials):
            self.terminal.warn(warning)
        for warning in self._ahead.memory_warnings(request.trials, request.nodes):
            self.terminal.warn(warning)

    def _show(self, request: Request, at_once: int | None) -> None:
        """Print the plan and how long it will take."""
        todo = self._left(request.sweep, request.trials, rerun=request.config.rerun is not None)
        earlier = estimate.earlier_results(Path.cwd(), host.facts())
        estimator = estimate.Estimator(self._ahead.nets.nets, earlier)
        self.terminal.plan(request.sweep, todo, request.nodes)
        self.terminal.variables(request.nodes)
        estimates = [estimator(trial) for trial in todo]
        self.terminal.forecast(todo, estimates, self._ahead.nets.memory_mb, request.nodes, at_once)

    def _left(self, sweep: Sweep, trials: Sequence[Trial], *, rerun: bool) -> list[Trial]:
        """Return the trials of which the sweep's journal has no result."""
        return without_result(trials, {result.trial_id: result for result in Journal(sweep.folder).read()}, rerun=rerun)

    def _hand_over(self, cluster: BatchJob, cfg: DictConfig, sweep: Sweep | None) -> None:
        """Hand the sweep over to a batch system; `sweep` is None if the one to be resumed is on the cluster."""
        left: list[Trial] = []
        if sweep is not None:
            results = {result.trial_id: result for result in Journal(sweep.folder).read()}
            left = without_result(sweep.trials, results, rerun=cfg.rerun is not None)
            if not left:
                self.terminal.say(f"Every trial of {sweep.folder} has a result: nothing was submitted.")
                self._handed = HandedOver(0 if all(result.ok for result in results.values()) else 1, None)
                return
        values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
        order = Order(values, self._arguments, sweep)
        self._handed = hand_over(cluster, order, left, self._ahead, self.terminal)
        if sweep is not None and self._handed.job is not None and cluster.shares_files:
            remembered.keep(sweep)
