"""One sweep from its composed configs to its exit code: plan, dispatch, record, report.

A session lives as long as the command. Hydra's launcher gives it the grid, at once or, with an optimising sweeper, part
by part; the machinery (fork server, Ray, sinks) starts with the first trial and stops with the session.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweeps import cores, dispatch, estimate, host, plan, ray_connection, resume, schema
from sweeps.calibration import Calibration
from sweeps.cluster import batch
from sweeps.devices import Node
from sweeps.errors import StoppedError, UsageError
from sweeps.forkserver import LastingServer
from sweeps.interrupts import Interrupts
from sweeps.preflight import Preflight
from sweeps.ray_cluster import RayFleet
from sweeps.ray_local import ray_on_this_machine
from sweeps.recorder import Recorder
from sweeps.terminal import Terminal
from tracking import sinks
from tracking.fanout import Outbox
from tracking.journal import Journal, JournalError
from tracking.quality import Hosts
from tracking.record import Result, Sweep, Trial

_SHARED = (
    *("cluster", "tracking", "calibrate", "profile", "order", "objective"),
    *("resume", "rerun", "retries", "oom_ceiling", "fail_fast", "dry_run"),
)
"""Keys that a sweep has once, not each of its trials."""
_current: ContextVar[Session] = ContextVar("session")


def current() -> Session:
    """The session of this command; the way from Hydra's launcher to it."""
    return _current.get()


def this_node() -> Node:
    """What this machine offers to trials."""
    return Node(cpus=len(cores.available()), gpus=host.gpu_count(), accelerator=host.accelerator())


class Session:
    """Runs every trial that Hydra asks for, into one sweep folder, one journal and one parent run."""

    def __init__(self, terminal: Terminal, interrupts: Interrupts, server: LastingServer) -> None:
        self.terminal = terminal
        self._interrupts = interrupts
        self._server = server
        self._outbox: Outbox | None = None
        self._preflight = Preflight()
        self.recorder: Recorder | None = None
        self._calibration = Calibration()
        self._hosts = Hosts()
        self._fleet: RayFleet | None = None
        self._job_code = 0
        self._machinery = contextlib.ExitStack()
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
        """Run the trials that these configs ask for, and give each config's results, one a repeat.

        Raises UsageError with every problem of every config before anything has started, StoppedError by `fail_fast`,
        JournalError when results can no longer be kept.
        """
        configs = iter(configs)
        first = next(configs)
        if first.resume is not None and not batch.shares_files(first.cluster.name):
            self._hand_over(first, None, Path(folder).absolute())
            return [[]]
        if first.resume is not None:
            resume.remove_if_empty(Path(folder).absolute())
            sweep = resume.find(first.resume, Path.cwd())
            first = _going_on(first, sweep)
            tracking = _tracking(first)
            sweep = replace(sweep, facts={**sweep.facts, "tracking": sinks.storable(tracking)})
            grid = [list(sweep.trials)]
            nodes, found = self._nodes(first, sweep.trials)
            if found := [*schema.read(first)[1], *found]:
                raise UsageError(found)
            trials = list(sweep.trials)
        else:
            home = Path(folder).absolute()
            tracking = _tracking(first)
            grid, found = _grid(first, configs)
            nodes, misfits = self._nodes(first, [trial for points in grid for trial in points[:1]])
            if found := [*found, *misfits, *plan.unwritable(home)]:
                resume.remove_if_empty(home)
                raise UsageError(found)
            order = None if first.order is None else first.order.name
            trials = plan.ordered(plan.unique(trial for points in grid for trial in points), order, first.seed)
            sweep = resume.new_sweep(trials, home, first.cluster.name, tracking, first.objective)
        if first.cluster.name in batch.KINDS:
            self._hand_over(first, sweep, Path(folder).absolute())
            return [[] for _ in grid]
        if self._outbox is None:
            self._outbox = Outbox(sinks.make_sinks(tracking))
            with self.terminal.working("Starting"):
                self._start(first, nodes, self._outbox)
        if found := self._preflight.problems(trials, self._server.address, flops=first.dry_run):
            resume.remove_if_empty(Path(folder).absolute())
            raise UsageError(found)
        for warning in self._preflight.warnings(trials):
            self.terminal.warn(warning)
        if first.dry_run:
            self._show(sweep, trials, nodes, rerun=first.rerun is not None)
            resume.remove_if_empty(Path(folder).absolute())
            return [[] for _ in grid]
        if self.recorder is None:
            self.recorder = Recorder(sweep, self._outbox)
            self._outbox.open(sweep)
        else:
            planned = {trial.trial_id for trial in self.recorder.sweep.trials}
            self.recorder.extend([trial for trial in trials if trial.trial_id not in planned])
        todo = _without_result(trials, self.recorder.results, rerun=first.rerun is not None)
        self.terminal.plan(self.recorder.sweep, todo, nodes)
        if todo:
            self._dispatch(todo, first, nodes, self.recorder)
        return [[self.recorder.results[trial.trial_id] for trial in points] for points in grid]

    def exit_code(self) -> int:
        """0 if every planned trial is ok, else 1; of a batch job, its own where it was waited for."""
        if self.recorder is None:
            return self._job_code
        results = self.recorder.results
        ok = (trial.trial_id in results and results[trial.trial_id].ok for trial in self.recorder.sweep.trials)
        return 0 if all(ok) else 1

    def _hand_over(self, cfg: DictConfig, sweep: Sweep | None, home: Path) -> None:
        """Give the sweep, or one that is resumed on the cluster, to a batch job; with `dry_run`, show the job."""
        try:
            found = schema.read(cfg)[1]
            if sweep is not None:
                found += self._preflight.problems(sweep.trials, self._server.address)
            if found:
                raise UsageError(found)
            known = {} if sweep is None else {result.trial_id: result for result in Journal(sweep.folder).read()}
            if sweep is not None and not _without_result(sweep.trials, known, rerun=cfg.rerun is not None):
                self.terminal.say(f"Every trial of {sweep.folder} has a result: nothing was submitted.")
                self._job_code = 0 if all(result.ok for result in known.values()) else 1
                return
            values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
            self._job_code = batch.hand_over(OmegaConf.to_object(cfg.cluster), values, sweep, self.terminal)
        finally:
            resume.remove_if_empty(home)

    def _nodes(self, cfg: DictConfig, trials: Sequence[Trial]) -> tuple[list[Node], list[str]]:
        """The nodes that the trials can run on, and what speaks against running them there."""
        found: list[str] = []
        try:
            if cfg.cluster.name == "ray":
                if self._fleet is None:
                    cluster = ray_connection.connected(cfg.cluster, trials, self.terminal.warn)
                    self._fleet = self._machinery.enter_context(cluster)
                    self._interrupts.install()  # Ray has a handler of its own
                    found += self._fleet.meet()
                nodes = self._fleet.nodes
            else:
                nodes = [_node(cfg)]
        except UsageError as error:
            return [], error.problems
        files = batch.shares_files(cfg.cluster.name)
        return nodes, [*found, *(plan.problems(trials, nodes, files=files) if nodes else [])]

    def _show(self, sweep: Sweep, trials: Sequence[Trial], nodes: Sequence[Node], *, rerun: bool) -> None:
        """Print the plan and how long it will take."""
        known = {result.trial_id: result for result in Journal(sweep.folder).read()}
        todo = _without_result(trials, known, rerun=rerun)
        earlier = estimate.earlier_results(Path.cwd(), host.facts()["hostname"])
        estimator = estimate.Estimator(self._preflight.nets, earlier)
        self.terminal.plan(sweep, todo, nodes)
        self.terminal.forecast(todo, [estimator(trial) for trial in todo], self._preflight.memory_mb, nodes)

    def _dispatch(self, trials: Sequence[Trial], cfg: DictConfig, nodes: Sequence[Node], recorder: Recorder) -> None:
        shared = dispatch.Context(
            sweep_id=recorder.sweep.sweep_id,
            folder=Path(recorder.sweep.folder),
            server=self._server.address,
            node=nodes[0],
            fleet=self._fleet,
            calibration=self._calibration if cfg.calibrate else None,
            retries=cfg.retries,
            started=self.terminal.started,
            retrying=self.terminal.retrying,
            warn=self.terminal.warn,
        )
        run = dispatch.inline if cfg.cluster.name == "inline" else dispatch.on_ray
        todo = {trial.trial_id for trial in trials}
        ceiling = plan.Ceiling(result for trial_id, result in recorder.results.items() if trial_id not in todo)
        fail_fast = plan.FailFast(cfg.fail_fast)
        for known in recorder.results.values():
            self._hosts.judge(known)
        context = replace(shared, skip=ceiling.skip) if cfg.oom_ceiling else shared
        with self.terminal.running(trials, context.log), contextlib.closing(run(trials, context)) as results:
            for result in results:
                judged = self._hosts.judge(self._calibration.judge(result))
                with self._interrupts.held():
                    recorder.record(judged)
                self.terminal.finished(judged)
                recorder.send()
                self.terminal.waiting(recorder.outbox.pending())
                ceiling.note(judged)
                if reason := fail_fast.note(judged):
                    raise StoppedError(reason)

    def _start(self, cfg: DictConfig, nodes: Sequence[Node], outbox: Outbox) -> None:
        """Fork server, Ray and the sinks' libraries take seconds each; start them side by side."""
        self._server.start()
        imports = None if cfg.dry_run else outbox.preload()
        if cfg.cluster.name == "local" and not cfg.dry_run:
            self._machinery.enter_context(ray_on_this_machine(nodes[0]))
            self._interrupts.install()  # Ray has a handler of its own
        if self._fleet is not None and not cfg.dry_run:
            self._fleet.warm()
        self._server.address()
        if imports is not None:
            imports.join()


def _without_result(trials: Sequence[Trial], known: Mapping[str, Result], *, rerun: bool) -> list[Trial]:
    """The trials that have no result yet; with `rerun`, those too that are not ok."""
    return [trial for trial in trials if (result := known.get(trial.trial_id)) is None or (rerun and not result.ok)]


def _node(cfg: DictConfig) -> Node:
    """This machine, or as much of it as `cluster` allows; of a batch job, what its nodes will offer."""
    if cfg.cluster.name in batch.KINDS:
        return batch.node(OmegaConf.to_object(cfg.cluster))
    node = this_node()
    limits = {key: cfg.cluster[key] for key in ("cpus", "gpus") if cfg.cluster.get(key) is not None}
    if limits.get("cpus", 1) < 1 or limits.get("cpus", 1) > node.cpus:
        raise UsageError([f"cluster.cpus={limits['cpus']}: expected between 1 and {node.cpus} cores."])
    return replace(node, **limits)


def _going_on(cfg: DictConfig, sweep: Sweep) -> DictConfig:
    """The config of a command that resumes this sweep, with the sweep's own tracking where the command says nothing."""
    composed: Any = OmegaConf.to_container(cfg.tracking, resolve=True)
    mine = cfg.copy()
    for key, value in resume.tracking(sweep, composed, sys.argv[1:]).items():
        mine.tracking[key] = value
    return mine


def _tracking(cfg: DictConfig) -> sinks.Settings:
    try:
        return sinks.settings(cfg.tracking)
    except sinks.SettingsError as error:
        raise UsageError([str(error)]) from error


def _grid(first: DictConfig, others: Iterator[DictConfig]) -> tuple[list[list[Trial]], list[str]]:
    """Each config's trials, one a repeat, and what is wrong with the configs."""
    grid: list[list[Trial]] = []
    found: list[str] = []
    for cfg in itertools.chain([first], others):
        trial, wrong = schema.read(cfg)
        found += wrong
        found += [f"{key} is the whole sweep's: expected one value." for key in _SHARED if cfg[key] != first[key]]
        grid.append([replace(trial, repeat=repeat) for repeat in range(cfg.repeats)])
    return grid, found
