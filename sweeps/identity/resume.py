"""A sweep's plan: made for a new one, found and checked for one that is resumed."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from nets import custom
from sweeps.errors import UsageError
from sweeps.identity import origin
from sweeps.identity.remembered import Place
from sweeps.machine import host
from sweeps.plan import targets
from sweeps.sources import provenance
from sweeps.tasks import TASKS
from sweeps.typed import command_line
from sweeps.typed.arguments import Arguments
from tracking.folder import folders
from tracking.folder.journal import Journal, JournalError
from tracking.folder.trial_folder import TrialFolder, trials_folder
from tracking.record import Sweep, Trial
from tracking.sinks import registry, trust
from tracking.sinks.registry import Settings
from tracking.text.commits import changes, differences
from tracking.text.redact import redact

_MOST_LINKS = 3


def new_sweep(
    trials: Sequence[Trial],
    folder: Path,
    remembered: Mapping[str, Any],
    tracking: Settings,
    *,
    command: str,
    objective: str | None = None,
    sweep_id: str | None = None,
) -> Sweep:
    """Return a sweep of these trials that `command` begins now.

    `remembered` is what the plan keeps of the command (`remembered.facts`), `objective` the figure by which a sweeper
    chooses among trials, `sweep_id` the id that the sweep was submitted with.
    """
    now = time.time()
    stamp = datetime.fromtimestamp(now).strftime("%Y%m%d-%H%M%S")  # noqa: DTZ006 - the user's own clock
    facts = (
        host.facts()
        | host.gpu_facts()
        | {
            **remembered,
            origin.FACT: str(Path.cwd()),
            "tracking": registry.storable(tracking),
            "objective": objective,
        }
        | provenance.facts(Path.cwd(), folder)
    )
    return Sweep(
        sweep_id=sweep_id or f"{stamp}-{uuid.uuid4().hex[:6]}",
        folder=str(folder),
        command=command,
        created_at=now,
        trials=tuple(trials),
        facts={key: value for key, value in facts.items() if value is not None},
    )


def find(name: str, cwd: Path) -> tuple[Sweep, Path]:
    """Return the plan that `resume=` names (a folder, a sweep id, or `latest` under `cwd`), and its folder.

    The plan is as it was written; the folder may have been moved since. Raises UsageError if there is none.
    """
    try:
        folder = folders.find(name, cwd).absolute()
        return Journal(folder).read_plan(), folder
    except JournalError as error:
        raise UsageError([f"resume={name}: {error}"]) from error


def doubts(
    plan: Sweep, folder: Path, uri: str | None, trials: Iterable[Trial], place: Place | None = None
) -> list[str]:
    """Return why the user should confirm that these trials of the plan in this folder run and send results to `uri`.

    `place` is where the plan has them run. Empty: there is no reason.
    """
    reasons: list[str] = []
    reasons += filter(None, [_of_modules(plan, folder, trials), _of_saved_models(plan, folder, trials)])
    if owner := trust.stranger(folder):
        results = f"; results go to {trust.shown(uri)}" if uri else ""
        runs = ", ".join(foreign_parts(trials)) or "nets of this project"
        where = f"; with {redact(' '.join(place.elsewhere))}" if place and place.elsewhere else ""
        reasons.append(
            f"{folder} belongs to {owner}, and its plan says what runs with this user's rights: {runs}{where}{results}"
        )
    else:
        address = place.address if place else None
        reasons += filter(None, [trust.misgivings(plan, folder, uri), trust.misgivings_of_ray(plan, folder, address)])
    links = _links(folder, trials)
    return reasons + [f"{link} is a link to {link.readlink()}, and results would be written there" for link in links]


def _of_modules(plan: Sweep, folder: Path, trials: Iterable[Trial]) -> str:
    """Return why modules from the folder that the plan was started in are not to be trusted; empty: no reason."""
    started_in = origin.folder(origin.follow(replace(plan, folder=str(folder), trials=()), plan))
    if started_in == Path.cwd() or not any(trial.callables for trial in trials):
        return ""
    if owner := trust.stranger(started_in):
        return f"the plan in {folder} imports modules from {started_in}, which belongs to {owner}"
    if trust.lies_where_it_says(plan, folder):
        return ""
    return f"{folder} was copied or moved there from {plan.folder}, and imports modules from {started_in}"


def _of_saved_models(plan: Sweep, folder: Path, trials: Iterable[Trial]) -> str:
    """Return why saved models that may run code, by the plan's word, are not to be trusted; empty: no reason."""
    trusted = list(dict.fromkeys(str(trial.path) for trial in trials if _is_trusted(trial)))
    if not trusted or trust.lies_where_it_says(plan, folder):
        return ""
    named = ", ".join(trusted[:_MOST_LINKS])
    return f"{folder} was copied or moved there from {plan.folder}, and runs whatever code is in {named}"


def _is_trusted(trial: Trial) -> bool:
    """Whether the trial's saved model may run code of its own."""
    return trial.path is not None and bool(trial.model_args.get("trust"))


def planned_address(plan: Sweep, tracking: Settings, arguments: Arguments) -> str | None:
    """Return MLflow's address if only the plan names it, and neither the arguments nor anything else does."""
    uri: str | None = tracking.get("mlflow", {}).get("uri")
    kept = plan.facts.get("tracking")
    if arguments.keys & {"tracking", "tracking.uri"} or not isinstance(kept, Mapping):
        return None
    return uri if uri == kept.get("mlflow", {}).get("uri") else None


def foreign_parts(trials: Iterable[Trial]) -> list[str]:
    """Return what the trials run and read besides this project's own nets and tasks."""
    parts: dict[str, None] = {}
    for trial in trials:
        parts |= dict.fromkeys(trial.callables.values())
        if trial.path is not None:
            parts[f"model {trial.path}{', which may run code' if _is_trusted(trial) else ''}"] = None
        if trial.weights is not None:
            parts[f"weights {trial.weights}"] = None
        if trial.task != "benchmark":
            parts[f"task {trial.task}"] = None
        for key in ("data", "images"):
            if value := trial.task_args.get(key):
                parts[f"{key} {value}"] = None
    return list(parts)


def unknown_parts(trials: Iterable[Trial], started_in: Path | None = None) -> list[str]:
    """Return tasks and callables of a plan that a new sweep would refuse as well; modules are in `started_in`."""
    refusals: dict[str, None] = {}
    for trial in trials:
        if trial.task not in TASKS:
            refusals[f"task={trial.task}: expected one of {', '.join(TASKS)}."] = None
        for target in targets.wanted([trial]):
            problems = custom.check(target.name, target.args, started_in)
            refusals |= dict.fromkeys(f"{problem}{_looked_for(problem, started_in)}" for problem in problems)
    return list(refusals)


def _looked_for(problem: str, started_in: Path | None) -> str:
    if not problem.startswith("There is no module"):
        return ""
    return f" Looked for in {started_in or Path.cwd()}, where the sweep was started, and among installed packages."


def _links(folder: Path, trials: Iterable[Trial]) -> list[Path]:
    """Return symbolic links in the folder through which these trials would write."""
    folders = (TrialFolder.within(folder, trial.trial_id) for trial in trials)
    places = [trials_folder(folder), *(place for own in folders for place in own.places())]
    return [place for place in places if place.is_symlink()][:_MOST_LINKS]


def changed_code(sweep: Sweep) -> tuple[Sweep, str]:
    """Return the sweep with a note of how the code has changed since it was begun, and that change, empty if none.

    Results from before and after are in one table, and the plan's commit is that of the first ones.
    """
    change = differences(sweep.facts, provenance.facts(origin.folder(sweep), Path(sweep.folder)))
    earlier = changes(sweep.facts)
    if not change or change in earlier:
        return sweep, change
    return replace(sweep, facts={**sweep.facts, "git_resumed": [*earlier, change]}), change


def problems(name: str, arguments: Arguments, *, several: bool) -> list[str]:
    """Return the sentence for a command that resumes the sweep `name` and also sets what its plan has settled.

    `several`: the command is a grid.
    """
    planned = command_line.fixed_by_plan(arguments)
    if not planned and not several:
        return []
    received = ", ".join(planned) if planned else "a grid"
    return [
        f"resume={name}: expected a command without a grid and without keys of trials, since the sweep's plan has "
        f"its trials. Received: {received}."
    ]


def with_limit(sweep: Sweep, cfg: DictConfig, arguments: Arguments) -> Sweep:
    """Return the sweep with the time limit that the arguments set, if they do: it is no part of a trial's id."""
    if "timeout_s" not in arguments.keys:
        return sweep
    return replace(sweep, trials=tuple(replace(trial, timeout_s=cfg.timeout_s) for trial in sweep.trials))


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of date and time that Hydra makes for every command, if nothing was written into it."""
    with contextlib.suppress(OSError):
        for empty in (folder, *folder.parents):
            if empty == Path.cwd() or not empty.is_relative_to(Path.cwd()):
                return
            empty.rmdir()
