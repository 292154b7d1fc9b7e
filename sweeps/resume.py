"""A sweep's identity: made for a new one, found again for one that was interrupted."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweeps import host, provenance
from sweeps.cluster import command_line
from sweeps.errors import UsageError
from tracking import folders, moved, sinks
from tracking.commits import differences
from tracking.journal import Journal, JournalError
from tracking.mlflow_client import given_address
from tracking.record import Sweep, Trial
from tracking.redact import is_redacted, redact_arguments
from tracking.sinks import Settings


def new_sweep(
    trials: Sequence[Trial], folder: Path, cluster: str, tracking: Settings, objective: str | None = None
) -> Sweep:
    """A sweep of these trials that begins now; `objective`: the figure by which they are chosen among."""
    now = time.time()
    stamp = datetime.fromtimestamp(now).strftime("%Y%m%d-%H%M%S")  # noqa: DTZ006 - the user's own clock
    facts = (
        host.facts()
        | host.gpu_facts()
        | {
            "cluster": cluster,
            "tracking": sinks.storable(tracking),
            "objective": objective,
        }
        | provenance.facts(Path.cwd(), folder)
    )
    return Sweep(
        sweep_id=f"{stamp}-{uuid.uuid4().hex[:6]}",
        folder=str(folder),
        command=shlex.join(redact_arguments(["python", *sys.argv])),
        created_at=now,
        trials=tuple(trials),
        facts={key: value for key, value in facts.items() if value is not None},
    )


def find(name: str, cwd: Path) -> Sweep:
    """The sweep that `resume=` names: a folder, a sweep id, or `latest` under `cwd`. Raises UsageError."""
    try:
        folder = folders.find(name, cwd)
        return moved.follow(Journal(folder).read_plan(), folder.absolute())
    except JournalError as error:
        raise UsageError([f"resume={name}: {error}"]) from error


def changed_code(sweep: Sweep) -> tuple[Sweep, str]:
    """The sweep with a note of how the code has changed since it was begun, and this change; empty: it has not.

    Results of both stand in one table then, and the plan's commit is that of the first ones.
    """
    change = differences(sweep.facts, provenance.facts(Path.cwd(), Path(sweep.folder)))
    known = sweep.facts.get("git_resumed", ())
    if not change or change in known:
        return sweep, change
    return replace(sweep, facts={**sweep.facts, "git_resumed": [*known, change]}), change


def going_on(cfg: DictConfig, sweep: Sweep) -> DictConfig:
    """The config of a command that resumes this sweep, with the sweep's own tracking where the command says nothing.

    Raises UsageError as `tracking`.
    """
    composed: Any = OmegaConf.to_container(cfg.tracking, resolve=True)
    mine = cfg.copy()
    for key, value in tracking(sweep, composed, sys.argv[1:]).items():
        mine.tracking[key] = value
    return mine


def problems(name: str, arguments: Sequence[str], *, several: bool) -> list[str]:
    """What a command that resumes the sweep `name` says in vain; `several`: it asks for a grid."""
    planned = command_line.in_plan(arguments)
    if not planned and not several:
        return []
    received = ", ".join(planned) if planned else "a grid"
    return [
        f"resume={name}: expected a command without a grid and without keys of its trials, which are those of the "
        f"sweep's plan. Received: {received}."
    ]


def with_limit(sweep: Sweep, cfg: DictConfig, arguments: Sequence[str]) -> Sweep:
    """The sweep with its trials' time limit as these arguments give it, if they do: it is no part of what they are."""
    if "timeout_s" not in command_line.keys(arguments):
        return sweep
    return replace(sweep, trials=tuple(replace(trial, timeout_s=cfg.timeout_s) for trial in sweep.trials))


def tracking(sweep: Sweep, composed: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """The `tracking` configuration with which a sweep goes on: its own but for what these arguments say of it.

    Where its plan does not keep the address's password, MLFLOW_TRACKING_URI is taken. Raises UsageError without that.
    """
    given, stored = command_line.keys(arguments), sweep.facts.get("tracking")
    if stored is None or "tracking" in given:
        return dict(composed)
    own = {"sinks": list(stored), **stored.get("mlflow", {})}
    kept = {key: own[key] for key in own.keys() & composed.keys() if f"tracking.{key}" not in given}
    chosen = {**composed, **kept}
    if "mlflow" in chosen["sinks"] and is_redacted(uri := chosen["uri"]):
        if not (known := given_address()):
            where = "expected the sweep's address with its password, here or in MLFLOW_TRACKING_URI"
            raise UsageError([f"tracking.uri: {where}. Received: neither; the plan keeps {uri}."])
        chosen["uri"] = known
    elif "mlflow" in chosen["sinks"] and "uri" in kept and (problem := moved.lost(chosen["uri"])):
        raise UsageError([f"{problem}; name one with tracking.uri=sqlite:////PATH/mlflow.db"])
    return chosen


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of date and time that Hydra makes for every command, where nothing of ours has come into it."""
    with contextlib.suppress(OSError):
        for empty in (folder, *folder.parents):
            if empty == Path.cwd() or not empty.is_relative_to(Path.cwd()):
                return
            empty.rmdir()
