"""What a plan remembers of its sweep's command besides the trials: where and how it ran, and where results went.

`resume=` alone goes on in the same way. Keys that its own command sets take precedence, and are remembered in turn.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeps.clusters.kinds import KINDS
from sweeps.errors import UsageError
from sweeps.typed import command_line
from sweeps.typed.arguments import Arguments, key_of
from sweeps.typed.keys import SETTINGS
from tracking.folder.journal import Journal, JournalError
from tracking.record import Sweep
from tracking.sinks import registry
from tracking.sinks.mlflow import moved
from tracking.sinks.mlflow.client import given_address
from tracking.text.redact import MARK, is_redacted, redact

_FACTS = ("cluster", "cluster_options", "settings")
"""The plan's facts that `facts` returns."""
_INTERPOLATION = re.compile(r"(\\*)\$\{")


class Place(NamedTuple):
    """The cluster on which a plan has its sweep go on."""

    name: str
    """As `cluster=` takes it."""
    options: Mapping[str, Any]
    """The cluster's options that the resuming command does not set itself, by name."""

    @property
    def elsewhere(self) -> list[str]:
        """The arguments that choose the same cluster and options; none where it is this machine."""
        if KINDS[self.name].is_here:
            return []
        options = [f"cluster.{key}={command_line.text(value)}" for key, value in self.options.items()]
        return [f"cluster={self.name}", *options]

    @property
    def address(self) -> str | None:
        """The address of the Ray cluster, if the plan has one."""
        return self.options.get(KINDS[self.name].connects_to or "")


def facts(cfg: DictConfig, arguments: Arguments, place: Place | None = None) -> dict[str, Any]:
    """Return what a plan remembers of this config; `place` is where an earlier plan of the sweep had it go on.

    Only what somebody has chosen: the rest stays open. Secrets are taken out.
    """
    values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    options = dict(values["cluster"])
    name = options.pop("name")
    defaults, remembered = asdict(KINDS[name]()), place.options if place else {}
    settings = {key: values[key] for key in SETTINGS}
    return {
        "cluster": name,
        "cluster_options": {
            key: _without_secrets(value)
            for key, value in options.items()
            if value != defaults[key] or key in remembered or arguments.sets(f"cluster.{key}")
        },
        "settings": {
            key: _without_secrets(value)
            for key, value in settings.items()
            if value != SETTINGS[key].default or arguments.sets(key)
        },
    }


def place(sweep: Sweep, cfg: DictConfig, arguments: Arguments) -> Place | None:
    """Return where the sweep's plan has it go on; None: the plan does not say, or this command says otherwise.

    Raises UsageError for a cluster or options that do not exist.
    """
    name, kept = sweep.facts.get("cluster"), sweep.facts.get("cluster_options")
    if kept is None or ("cluster" in arguments.keys and cfg.cluster.name != name):
        return None
    if not isinstance(name, str) or name not in KINDS or not isinstance(kept, Mapping):
        raise _unreadable(sweep, f"cluster={name}", f"one of {', '.join(KINDS)}")
    valid = asdict(KINDS[name]()).keys() - {"name"}
    if unknown := [str(key) for key in kept if key not in valid]:
        raise _unreadable(sweep, f"cluster.{unknown[0]}", f"one of {', '.join(sorted(valid))} for cluster={name}")
    return Place(name, _left(kept, arguments, "cluster."))


def going_on(cfg: DictConfig, sweep: Sweep, place: Place | None, arguments: Arguments) -> DictConfig:
    """Return the config of a command that resumes this sweep: what the arguments leave open is as its plan remembers.

    Raises UsageError for what a plan does not keep, such as a password, and for a value that its key does not take.
    """
    resumed = cfg.copy()
    composed: Any = OmegaConf.to_container(cfg.tracking, resolve=True)
    _take(resumed.tracking, tracking(sweep, composed, arguments), "tracking.", sweep)
    if isinstance(settings := sweep.facts.get("settings"), Mapping):
        planned = {key: value for key, value in settings.items() if key in SETTINGS}
        _take(resumed, _left(planned, arguments, ""), "", sweep)
    if place is not None:
        if resumed.cluster.name != place.name:
            resumed.cluster = OmegaConf.structured(KINDS[place.name])
        _take(resumed.cluster, place.options, "cluster.", sweep)
        if redacted := [key for key, value in place.options.items() if MARK in str(value)]:
            raise UsageError(
                f"cluster.{key}: expected the option with its secret, which the plan does not keep. Received: nothing. "
                "cluster=local goes on without it."
                for key in redacted
            )
    return resumed


def in_job(sweep: Sweep) -> bool:
    """Return whether this process is the sweep's batch job, whose command only describes where it happens to run."""
    return os.environ.get(command_line.IN_JOB) == sweep.sweep_id


def keep(sweep: Sweep) -> None:
    """Write what this submission chose into the plan on disk, the rest of which a job of the sweep may have renewed.

    A job that runs now holds the lock on the plan, which then stays as it is.
    """
    with contextlib.suppress(JournalError), Journal(sweep.folder) as journal:
        plan = journal.read_plan()
        facts = {**plan.facts, **{key: sweep.facts[key] for key in _FACTS if key in sweep.facts}}
        if facts != plan.facts:
            journal.write_plan(replace(plan, facts=facts))


def remedy(place: Place | None, problems: Sequence[str], name: str) -> list[str]:
    """Return what to do when a sweep has these problems on the cluster of its plan, as one more sentence."""
    if not problems or place is None or KINDS[place.name].is_here:
        return []
    return [
        f"resume={name}: its plan goes on with {' '.join(place.elsewhere)}. cluster.KEY=VALUE changes that, "
        "cluster=local runs the rest on this machine."
    ]


def with_cluster(arguments: Arguments, find: Callable[[], Sweep]) -> Arguments:
    """Return the arguments with the cluster that the resumed plan remembers, so that `cluster.KEY=` has a meaning.

    They stay as they are where they choose a cluster, or set none of its keys. `find` returns the plan.
    """
    keys, words = arguments.keys, arguments.words
    if "resume" not in keys or "cluster" in keys or not any(key.startswith("cluster.") for key in keys):
        return arguments
    try:
        facts = find().facts
    except UsageError:  # raised again later, with everything else that is wrong
        return arguments
    if facts.get("cluster_options") is None or facts.get("cluster") not in KINDS:
        return arguments
    at = next(index for index, word in enumerate(words) if key_of(word) == "resume")
    return arguments.with_words([*words[:at], f"cluster={facts['cluster']}", *words[at:]])


def tracking(sweep: Sweep, composed: Mapping[str, Any], arguments: Arguments) -> dict[str, Any]:
    """Return the `tracking` config with which a sweep goes on: that of its plan, except for what these arguments set.

    The address comes from MLFLOW_TRACKING_URI where the plan keeps it without its password. Raises UsageError where
    that variable is not set, where the database is gone, and where the plan names unknown sinks.
    """
    if sweep.facts.get("tracking") is None or "tracking" in arguments.keys:
        return dict(composed)
    try:
        stored = registry.stored(sweep.facts)
    except registry.SettingsError as error:
        raise UsageError([f"{sweep.folder}: {error}. tracking=mlflow or another choice replaces it."]) from error
    planned = {"sinks": list(stored), **stored.get("mlflow", {})}
    kept = _left({key: planned[key] for key in planned.keys() & composed.keys()}, arguments, "tracking.")
    chosen = {**composed, **kept}
    if "mlflow" in chosen["sinks"] and is_redacted(uri := chosen["uri"]):
        if not (complete := given_address()):
            expected = "expected the sweep's address with its password, here or in MLFLOW_TRACKING_URI"
            raise UsageError([f"tracking.uri: {expected}. Received: neither; the plan keeps {uri}."])
        chosen["uri"] = complete
    elif "mlflow" in chosen["sinks"] and "uri" in kept and (problem := moved.lost(chosen["uri"])):
        raise UsageError([f"{problem}; name one with tracking.uri=sqlite:////PATH/mlflow.db"])
    return chosen


def _left(kept: Mapping[str, Any], arguments: Arguments, prefix: str) -> dict[str, Any]:
    """Return those of these remembered values that the arguments do not set; `prefix` leads to their keys."""
    return {key: value for key, value in kept.items() if not arguments.sets(f"{prefix}{key}")}


def _take(into: DictConfig, values: Mapping[str, Any], prefix: str, sweep: Sweep) -> None:
    for key, value in values.items():
        try:
            into[key] = _literal(value)
        except OmegaConfBaseException as error:
            raise _unreadable(sweep, f"{prefix}{key}={value}", "a value of its type") from error


def _literal(value: Any) -> Any:
    """Return a value with its `${` escaped: interpolations were resolved when the plan was made."""
    if isinstance(value, str):
        return _INTERPOLATION.sub(lambda match: f"{match[1] * 2}\\${{", value)
    return _within(value, _literal)


def _without_secrets(value: Any) -> Any:
    return redact(value) if isinstance(value, str) else _within(value, _without_secrets)


def _within(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: change(inner) for key, inner in value.items()}
    return [change(inner) for inner in value] if isinstance(value, list | tuple) else value


def _unreadable(sweep: Sweep, received: str, expected: str) -> UsageError:
    problem = f"{sweep.folder}: expected its plan to remember {expected}. Received: {received:.200}"
    return UsageError([f"{problem}. cluster=local replaces that."])
