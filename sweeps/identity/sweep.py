"""The sweep that a command asks for: a new one, or an earlier one that is resumed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from sweeps.errors import UsageError
from sweeps.identity import origin, remembered, resume
from sweeps.jobs import submitted
from sweeps.machine.node import Node
from sweeps.plan import checks
from sweeps.plan.order import ordered, unique
from sweeps.request import grid, schema
from sweeps.typed.arguments import Arguments
from tracking import startup
from tracking.folder.journal import Journal
from tracking.record import STATUSES, Result, Sweep, Trial
from tracking.sinks import registry, trust
from tracking.sinks.mlflow import moved

FindNodes = Callable[[DictConfig, Sequence[Trial]], tuple[list[Node], list[str]]]
"""Returns the nodes that the config's cluster has for these trials, and every reason why some cannot run there."""


class Request(NamedTuple):
    """A sweep, and what this command wants of it."""

    config: DictConfig
    """The first config; its keys of the whole sweep count for all."""
    points: list[list[Trial]]
    """Each config's trials, one per repeat."""
    trials: list[Trial]
    """The trials that may still have to run, each once and in order."""
    sweep: Sweep
    nodes: list[Node]
    """Where the trials can run."""
    tracking: registry.Settings
    """The sinks, by name, with their settings."""


def new(
    first: DictConfig,
    others: Iterator[DictConfig],
    home: Path,
    arguments: Arguments,
    find_nodes: FindNodes,
    *,
    begun: bool = False,
) -> Request:
    """Plan a sweep of every config's trials, whose results go to the folder `home`.

    `begun`: the sweep in `home` is this command's own, and these are more points of it. Raises UsageError with every
    problem of every config, of the nodes and of the folder.
    """
    tracking = tracking_settings(first)
    points, problems = grid.read(first, others)
    nodes, misfits = find_nodes(first, [trial for repeats in points for trial in repeats[:1]])
    problems += [*misfits, *checks.unwritable(home), *([] if begun else checks.used(home))]
    if problems:
        raise UsageError(problems)
    order = None if first.order is None else first.order.name
    trials = ordered(unique(itertools.chain.from_iterable(points)), order, first.seed)
    job = submitted.here(home)
    sweep = resume.new_sweep(
        trials,
        home,
        remembered.facts(first, arguments),
        tracking,
        command=job.command if job else arguments.command,
        objective=first.objective,
        sweep_id=job.sweep_id if job else None,
    )
    return Request(first, points, trials, sweep, nodes, tracking)


def resumed(
    config: DictConfig,
    arguments: Arguments,
    find_nodes: FindNodes,
    *,
    say: Callable[[str], None],
    warn: Callable[[str], None],
    move_to: Callable[[Path], None],
) -> Request:
    """Find the sweep that `resume=` names, with the trials that still have to run.

    `move_to` receives the folder that the sweep was started in, before `find_nodes` is called. `say` is called with
    what this command runs and connects to only because the plan says so, `warn` with how the code has changed since.
    Raises UsageError where there is no such sweep, where its plan is not trusted, and where the trials cannot run.
    """
    planned, folder = resume.find(config.resume, Path.cwd())
    sweep = origin.follow(resume.with_limit(moved.follow(planned, folder), config, arguments), planned)
    place = remembered.place(sweep, config, arguments)
    config = remembered.going_on(config, sweep, place, arguments)
    tracking = tracking_settings(config)
    results = {result.trial_id: result for result in Journal(sweep.folder).read()}
    trials = without_result(sweep.trials, results, rerun=config.rerun is not None)
    problems = schema.read(config)[1]
    of_cluster = [problem for problem in problems if problem.startswith("cluster")]
    problems += remembered.remedy(place, of_cluster, config.resume)
    address = resume.planned_address(planned, tracking, arguments)
    problems += _distrust(config, planned, folder, address, trials, place)
    if problems:
        raise UsageError(problems)  # before anything else of the plan is used
    for sentence in _goes_by_plan(config, folder, address, trials, place):
        say(sentence)
    started_in = origin.folder(sweep)
    startup.own_modules_last(started_in)  # only now that the plan that names the folder is trusted
    if problems := resume.unknown_parts(trials, started_in):
        raise UsageError(problems)
    move_to(started_in)
    nodes, misfits = find_nodes(config, trials)
    if misfits:
        raise UsageError([*misfits, *remembered.remedy(place, misfits, config.resume)])
    sweep, change = resume.changed_code(sweep)
    if change and trials:
        warn(f"the code has changed since the sweep was begun, and so may its figures: {change}")
    facts = {} if remembered.in_job(sweep) else remembered.facts(config, arguments, place)
    sweep = replace(sweep, facts={**sweep.facts, **facts, "tracking": registry.storable(tracking)})
    return Request(config, [list(sweep.trials)], trials, sweep, nodes, tracking)


def without_result(trials: Sequence[Trial], results: Mapping[str, Result], *, rerun: bool) -> list[Trial]:
    """Return the trials that have no result by their id; with `rerun`, also those that failed.

    Infeasible trials stay as they are: they would be infeasible again.
    """
    final = ("ok", "infeasible") if rerun else STATUSES
    return [trial for trial in trials if trial.trial_id not in results or results[trial.trial_id].status not in final]


def tracking_settings(config: DictConfig) -> registry.Settings:
    """Return the settings of the sinks that a config names. Raises UsageError for unknown sinks and keys."""
    try:
        return registry.settings(config.tracking)
    except registry.SettingsError as error:
        raise UsageError([str(error)]) from error


def _distrust(
    config: DictConfig,
    plan: Sweep,
    folder: Path,
    address: str | None,
    trials: Sequence[Trial],
    place: remembered.Place | None,
) -> list[str]:
    """Return why the plan in this folder is not carried out; on a terminal, the user may agree to it.

    What was agreed to is noted in the config, since nobody can be asked in a batch job.
    """
    doubts = [] if config.trust else resume.doubts(plan, folder, address, trials, place)
    if doubts and not trust.agreed("; ".join(doubts)):
        expected = f"resume={config.resume}: expected a sweep of this user's own, or trust=true"
        return [f"{expected}. Received: {doubt}." for doubt in doubts]
    if doubts:
        config.trust = True
    return []


def _goes_by_plan(
    config: DictConfig,
    folder: Path,
    address: str | None,
    trials: Sequence[Trial],
    place: remembered.Place | None,
) -> Iterator[str]:
    """Sentences on what only the plan in this folder decides: what this command runs, where, and where results go."""
    if parts := resume.foreign_parts(trials):
        yield f"Runs     {', '.join(parts)}, as {folder} says"
    if place and place.elsewhere and trials and not config.dry_run:
        yield f"Goes on  with {' '.join(place.elsewhere)}, as {folder} says; cluster=local replaces that"
    if address and trials:
        yield f"Sends    results to {address}, as {folder} says"
