"""One sweep from its composed configs to its exit code: plan, dispatch, record, report.

A session lives as long as the command. Hydra's launcher gives it the grid, at once or, with an optimising sweeper, part
by part; the machinery (fork server, Ray, sinks) starts with the first trial and stops with the session.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from sweeps.clusters import this_machine
from sweeps.clusters.existing import connect
from sweeps.clusters.existing.nodes import RayFleet
from sweeps.clusters.local import LocalFleet, ray_on_this_machine
from sweeps.dispatch import loop
from sweeps.dispatch.calibration import Calibration
from sweeps.errors import StoppedError, UsageError
from sweeps.identity import origin, remembered, resume
from sweeps.jobs import batch, submitted
from sweeps.machine import host
from sweeps.machine.node import Node
from sweeps.outcome import Outcome
from sweeps.plan import checks, estimate, targets
from sweeps.plan.order import ordered, unique
from sweeps.plan.preflight import Preflight
from sweeps.plan.stopping import Ceiling, FailFast
from sweeps.process.interrupts import Interrupts
from sweeps.recorder import Recorder
from sweeps.request import grid, schema
from sweeps.screen.terminal import Terminal
from sweeps.typed.arguments import Arguments
from sweeps.worker.forkserver import LastingServer
from tracking import startup
from tracking.analysis.doubts import Hosts
from tracking.folder.journal import PLAN, Journal, JournalError
from tracking.names import trial_names
from tracking.record import STATUSES, Failure, Result, Sweep, Trial
from tracking.sinks import registry, trust
from tracking.sinks.mlflow import moved
from tracking.sinks.outbox import Outbox

_current: ContextVar[Session] = ContextVar("session")


def current() -> Session:
    """The session of this command; the way from Hydra's launcher to it."""
    return _current.get()


class _Asked(NamedTuple):
    """What a command asks for: a new sweep, more trials of it, or one that is resumed."""

    cfg: DictConfig
    """The first config, whose keys of the whole sweep count."""
    points: list[list[Trial]]
    """Each config's trials, one a repeat."""
    trials: list[Trial]
    """Those that are, or may be, still to be run, each once and in order."""
    sweep: Sweep
    nodes: list[Node]
    """Where they can run."""
    tracking: registry.Settings


class Session:
    """Runs every trial that Hydra asks for, into one sweep folder, one journal and one parent run."""

    def __init__(self, terminal: Terminal, interrupts: Interrupts, server: LastingServer, arguments: Arguments) -> None:
        self.terminal = terminal
        self._arguments = arguments
        self._interrupts = interrupts
        self._server = server
        self._outbox: Outbox | None = None
        self._fail_fast: FailFast | None = None
        self._preflight = Preflight()
        self._targets = targets.Checks()
        self._started_in = Path.cwd()
        self._variables: frozenset[str] = frozenset()
        self.recorder: Recorder | None = None
        self._calibration = Calibration()
        self._hosts = Hosts()
        self._fleet: RayFleet | None = None
        self._local: LocalFleet | None = None
        self._handed: batch.Handed | None = None
        self._planned: Sweep | None = None
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
        JournalError when results can no longer be kept. Of points that come when trials have run, or that an optimising
        sweeper tries, those that cannot run are `infeasible`, as long as some can.
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

    def _run(self, configs: Iterator[DictConfig], home: Path) -> list[list[Result]]:
        first = next(configs)
        if first.resume is not None:
            several = next(configs, None) is not None
            if found := resume.problems(first.resume, self._arguments, several=several):
                raise UsageError(found)
        if first.resume is not None and not batch.shares_files(first.cluster.name):
            if found := schema.read(first)[1]:
                raise UsageError(found)
            self._hand_over(first, None)
            return [[]]
        asked = self._new(first, configs, home) if first.resume is None else self._resumed(first)
        self._planned = asked.sweep
        nothing: list[list[Result]] = [[] for _ in asked.points]
        if asked.cfg.cluster.name in batch.KINDS:
            self._hand_over(asked.cfg, asked.sweep)
            return nothing
        outbox = self._started(asked)
        self._look_at_nets(asked)
        if asked.cfg.dry_run:
            self._show(asked)
            return nothing
        recorder = self._recording(asked, outbox)
        todo = _without_result(asked.trials, recorder.results, rerun=asked.cfg.rerun is not None)
        self.terminal.plan(recorder.sweep, todo, asked.nodes)
        self._tell_variables(asked.nodes)
        if todo:
            self._dispatch(todo, asked.cfg, asked.nodes, recorder)
        return [[recorder.results[trial.trial_id] for trial in repeats] for repeats in asked.points]

    def _point_by_point(self, configs: Sequence[DictConfig], home: Path) -> list[list[Result]]:
        """Each config's results, where a sweeper goes by them: a point that cannot run must not end what others began.

        Raises UsageError where no point could run so far, or where they are no points of one sweep.
        """
        try:
            return self._run(iter(configs), home)
        except UsageError as error:
            if any(grid.unlike(configs[0], cfg) for cfg in configs[1:]):
                raise
            found: list[list[Result] | UsageError] = [error]
        if len(configs) > 1:
            found = []
            for cfg in configs:
                try:
                    found += self._run(iter([cfg]), home)
                except UsageError as error:
                    found.append(error)
        if self.recorder is None:
            raise UsageError([sentence for one in found if isinstance(one, UsageError) for sentence in one.problems])
        return [
            self._infeasible(cfg, one, self.recorder) if isinstance(one, UsageError) else one
            for cfg, one in zip(configs, found, strict=True)
        ]

    def _infeasible(self, cfg: DictConfig, error: UsageError, recorder: Recorder) -> list[Result]:
        """Record a config's trials with the reasons why none of them can run. Raises UsageError where it asks for none.

        Those that have a result keep it.
        """
        trials = grid.repeats(schema.read(cfg)[0], cfg)
        recorder.extend(trials)
        failure = Failure(kind="Infeasible", message=" ".join(error.problems))
        for trial in _without_result(trials, recorder.results, rerun=False):
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

    def outcome(self) -> Outcome:
        """What the session has come to so far."""
        sweep = self._planned if self.recorder is None else self.recorder.sweep
        job = None if self._handed is None else self._handed.job
        here = sweep is not None and Path(sweep.folder, PLAN).is_file()
        return Outcome(
            exit_code=self._exit_code(),
            sweep_id=sweep.sweep_id if sweep is not None and (here or job is not None) else None,
            folder=sweep.folder if sweep is not None and here else None,
            job=job,
        )

    def _exit_code(self) -> int:
        """0 if every planned trial is ok, else 1; of a batch job, its own where it was waited for."""
        if self.recorder is None:
            return 0 if self._handed is None else self._handed.exit_code
        results = self.recorder.results
        ok = (trial.trial_id in results and results[trial.trial_id].ok for trial in self.recorder.sweep.trials)
        return 0 if all(ok) else 1

    def _resumed(self, cfg: DictConfig) -> _Asked:
        """What `resume=` asks for: of a sweep that is there, the trials that are still to be run."""
        planned, folder = resume.find(cfg.resume, Path.cwd())
        words = self._arguments
        sweep = origin.follow(resume.with_limit(moved.follow(planned, folder), cfg, words), planned)
        place = remembered.place(sweep, cfg, words)
        cfg = remembered.going_on(cfg, sweep, place, words)
        tracking = _tracking(cfg)
        known = {result.trial_id: result for result in Journal(sweep.folder).read()}
        trials = _without_result(sweep.trials, known, rerun=cfg.rerun is not None)
        wrong = schema.read(cfg)[1]
        wrong += remembered.remedy(place, [words for words in wrong if words.startswith("cluster")], cfg.resume)
        wrong += self._trusted(cfg, planned, folder, tracking, trials, place)
        if wrong:
            raise UsageError(wrong)  # before anything else of the plan is looked at
        self._started_in = origin.folder(sweep)
        startup.own_modules_last(self._started_in)  # not before the plan is trusted that names it
        if wrong := resume.unknown_parts(trials, self._started_in):
            raise UsageError(wrong)
        self._server.move_to(self._started_in)
        nodes, misfits = self._nodes(cfg, trials)
        if misfits:
            raise UsageError([*misfits, *remembered.remedy(place, misfits, cfg.resume)])
        sweep, change = resume.changed_code(sweep)
        if change and trials:
            self.terminal.warn(f"the code has changed since the sweep was begun, and so may its figures: {change}")
        now = {} if remembered.in_job(sweep) else remembered.facts(cfg, words, place)
        sweep = replace(sweep, facts={**sweep.facts, **now, "tracking": registry.storable(tracking)})
        return _Asked(cfg, [list(sweep.trials)], trials, sweep, nodes, tracking)

    def _trusted(
        self,
        cfg: DictConfig,
        sweep: Sweep,
        folder: Path,
        tracking: registry.Settings,
        trials: Sequence[Trial],
        place: remembered.Place | None,
    ) -> list[str]:
        """Why a plan is not taken at its word; of one that is, say what it runs and where it sends."""
        uri = resume.planned_address(sweep, tracking, self._arguments)
        doubts = [] if cfg.trust else resume.doubts(sweep, folder, uri, trials, place)
        if doubts and not trust.agreed("; ".join(doubts)):
            expected = f"resume={cfg.resume}: expected a sweep of this user's own, or trust=true"
            return [f"{expected}. Received: {doubt}." for doubt in doubts]
        if doubts:
            cfg.trust = True  # of a batch job nobody can be asked
        if parts := resume.foreign_parts(trials):
            self.terminal.say(f"Runs     {', '.join(parts)}, as {folder} says")
        if place and place.elsewhere and trials and not cfg.dry_run:
            self.terminal.say(
                f"Goes on  with {' '.join(place.elsewhere)}, as {folder} says; cluster=local chooses anew"
            )
        if uri and trials:
            self.terminal.say(f"Sends    results to {uri}, as {folder} says")
        return []

    def _new(self, first: DictConfig, others: Iterator[DictConfig], home: Path) -> _Asked:
        """A sweep of every config's trials, into `home`."""
        tracking = _tracking(first)
        points, found = grid.read(first, others)
        nodes, misfits = self._nodes(first, [trial for repeats in points for trial in repeats[:1]])
        taken = checks.used(home) if self.recorder is None else []
        if found := [*found, *misfits, *checks.unwritable(home), *taken]:
            raise UsageError(found)
        order = None if first.order is None else first.order.name
        trials = ordered(unique(itertools.chain.from_iterable(points)), order, first.seed)
        kept = remembered.facts(first, self._arguments)
        known = submitted.here(home)
        sweep = resume.new_sweep(
            trials,
            home,
            kept,
            tracking,
            command=known.command if known else self._arguments.command,
            objective=first.objective,
            sweep_id=known.sweep_id if known else None,
        )
        return _Asked(first, points, trials, sweep, nodes, tracking)

    def _hand_over(self, cfg: DictConfig, sweep: Sweep | None) -> None:
        """Give the sweep, or one that is resumed on the cluster, to a batch job; with `dry_run`, show the job."""
        if sweep is not None:
            known = {result.trial_id: result for result in Journal(sweep.folder).read()}
            todo = _without_result(sweep.trials, known, rerun=cfg.rerun is not None)
            found = self._preflight.problems(todo, self._server.address)
            unimportable = self._targets.problems(todo, self._server.address) if cfg.cluster.name == "slurm" else []
            if batch.has_this_environment(cfg.cluster):
                found += unimportable
            elif not found:
                for sentence in unimportable:
                    self.terminal.warn(f"{sentence} The job looks again, where it runs, before its first trial")
            if found:
                raise UsageError(found)
            if not todo:
                self.terminal.say(f"Every trial of {sweep.folder} has a result: nothing was submitted.")
                self._handed = batch.Handed(0 if all(result.ok for result in known.values()) else 1, None)
                return
        values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
        options = OmegaConf.to_object(cfg.cluster)
        self._handed = batch.hand_over(options, values, self._arguments, sweep, self.terminal)
        if sweep is not None and self._handed.job is not None and batch.shares_files(cfg.cluster.name):
            remembered.keep(sweep)

    def _nodes(self, cfg: DictConfig, trials: Sequence[Trial]) -> tuple[list[Node], list[str]]:
        """The nodes that the trials can run on, and what speaks against running them there."""
        found: list[str] = []
        if schema.of_cluster(cfg.cluster):
            return [], []  # schema.read tells, and nothing can be asked for in this way
        try:
            if cfg.cluster.name == "ray":
                if self._fleet is None:
                    cluster = connect.connected(cfg.cluster, trials, self.terminal.warn, self._started_in)
                    self._fleet = self._machinery.enter_context(cluster)
                    found += self._fleet.meet(trials, ask=not cfg.dry_run)
                nodes = self._fleet.nodes
            else:
                nodes = [this_machine.node(cfg.cluster)]
        except UsageError as error:
            return [], error.problems
        files = batch.shares_files(cfg.cluster.name)
        grows = self._fleet is not None and self._fleet.may_grow
        return nodes, [*found, *(checks.problems(trials, nodes, files=files, grows=grows) if nodes else [])]

    def _look_at_nets(self, asked: _Asked) -> None:
        """Raise UsageError with every net that cannot be built, and warn of those that will hardly fit."""
        found = self._preflight.problems(asked.trials, self._server.address, flops=asked.cfg.dry_run)
        if self._fleet is None:  # a cluster's nodes have been asked themselves
            found += self._targets.problems(asked.trials, self._server.address)
        if found:
            raise UsageError(found)
        for warning in self._preflight.warnings(asked.trials, asked.nodes):
            self.terminal.warn(warning)

    def _tell_variables(self, nodes: Iterable[Node]) -> None:
        """Warn, once, of what is set in the environment of trials and may change their figures."""
        new = frozenset().union(*(node.variables for node in nodes)) - self._variables
        self._variables |= new
        if new:
            self.terminal.warn(
                f"set in the environment and recorded with each result, since it may change figures: "
                f"{', '.join(sorted(new))}"
            )

    def _show(self, asked: _Asked) -> None:
        """Print the plan and how long it will take."""
        known = {result.trial_id: result for result in Journal(asked.sweep.folder).read()}
        todo = _without_result(asked.trials, known, rerun=asked.cfg.rerun is not None)
        earlier = estimate.earlier_results(Path.cwd(), host.facts())
        estimator = estimate.Estimator(self._preflight.nets, earlier)
        self.terminal.plan(asked.sweep, todo, asked.nodes)
        self._tell_variables(asked.nodes)
        estimates = [estimator(trial) for trial in todo]
        at_once = 1 if asked.cfg.cluster.name == "inline" else None
        self.terminal.forecast(todo, estimates, self._preflight.memory_mb, asked.nodes, at_once)

    def _recording(self, asked: _Asked, outbox: Outbox) -> Recorder:
        """The sweep's recorder: made with its first trials, and given those that come later."""
        if self.recorder is None:
            self.recorder = Recorder(asked.sweep, outbox)
            outbox.open(asked.sweep)
        else:
            self.recorder.extend(asked.trials)
        return self.recorder

    def _dispatch(self, trials: Sequence[Trial], cfg: DictConfig, nodes: Sequence[Node], recorder: Recorder) -> None:
        shared = loop.Context(
            sweep_id=recorder.sweep.sweep_id,
            folder=Path(recorder.sweep.folder),
            server=self._server.address,
            node=nodes[0],
            fleet=self._fleet or self._local,
            calibration=self._calibration if cfg.calibrate else None,
            retries=cfg.retries,
            started=self.terminal.progress.started,
            withdrawn=self.terminal.progress.withdrawn,
            held_up=self.terminal.progress.held_up,
            retrying=self.terminal.progress.retrying,
            warn=self.terminal.warn,
        )
        run = loop.inline if cfg.cluster.name == "inline" else loop.on_ray
        todo = {trial.trial_id for trial in trials}
        ceiling = Ceiling(result for trial_id, result in recorder.results.items() if trial_id not in todo)
        self._fail_fast = self._fail_fast or FailFast(cfg.fail_fast)
        for known in recorder.results.values():
            self._hosts.judge(known)
        context = replace(shared, limit=ceiling.limit) if cfg.oom_ceiling else shared
        with self.terminal.progress.running(trials, context.log), contextlib.closing(run(trials, context)) as results:
            for result in results:
                judged = self._hosts.judge(self._calibration.judge(result))
                with self._interrupts.held():
                    recorder.record(judged)
                self.terminal.progress.finished(judged)
                recorder.send()
                self.terminal.progress.waiting(recorder.outbox.pending())
                ceiling.note(judged)
                if reason := self._fail_fast.note(judged):
                    raise StoppedError(reason)

    def _started(self, asked: _Asked) -> Outbox:
        """The sinks; with the session's first trials, all that these need is started, and lasts as long as it.

        Fork server, Ray and the sinks' libraries take seconds each; they start side by side.
        """
        if self._outbox is not None:
            return self._outbox
        self._outbox, dry = Outbox(registry.make_sinks(asked.tracking)), asked.cfg.dry_run
        with self.terminal.working("Starting"):
            self._server.start()
            imports = None if dry else self._outbox.preload()
            if asked.cfg.cluster.name == "local" and not dry:
                own = self._machinery.enter_context(ray_on_this_machine(asked.nodes[0]))
                self._local = LocalFleet(own, asked.nodes[0], self._server.address)
            if self._fleet is not None and not dry:
                self._fleet.warm()
            self._server.address()
            if imports is not None:
                imports.join()
        return self._outbox


def _without_result(trials: Sequence[Trial], known: Mapping[str, Result], *, rerun: bool) -> list[Trial]:
    """The trials that have no result yet; with `rerun`, those too that failed. What is infeasible stays so."""
    done = ("ok", "infeasible") if rerun else STATUSES
    return [trial for trial in trials if trial.trial_id not in known or known[trial.trial_id].status not in done]


def _tracking(cfg: DictConfig) -> registry.Settings:
    try:
        return registry.settings(cfg.tracking)
    except registry.SettingsError as error:
        raise UsageError([str(error)]) from error
