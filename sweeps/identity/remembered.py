"""What a plan remembers of its sweep's command besides the trials: where it ran, how, and where results went.

`resume=` alone goes on in the same way. What its own command says wins, key by key, and is remembered in turn.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeps.clusters import kinds
from sweeps.errors import UsageError
from sweeps.request import schema
from sweeps.typed import command_line
from tracking.folder.journal import Journal, JournalError
from tracking.record import Sweep
from tracking.redact import MARK, is_redacted, redact
from tracking.sinks import registry
from tracking.sinks.mlflow import moved
from tracking.sinks.mlflow.client import given_address

_FACTS = ("cluster", "cluster_options", "settings")
"""Where a plan keeps what `facts` gives."""
_INTERPOLATION = re.compile(r"(\\*)\$\{")


class Place(NamedTuple):
    """Where a plan says that its sweep goes on."""

    name: str
    """The cluster's, as `cluster=` has it."""
    options: Mapping[str, Any]
    """Those that the resuming command leaves to the plan."""

    @property
    def elsewhere(self) -> list[str]:
        """The arguments that would say the same; none for this machine, where nothing of it matters to anybody."""
        if kinds.KINDS[self.name].is_here:
            return []
        options = [f"cluster.{key}={command_line.text(value)}" for key, value in self.options.items()]
        return [f"cluster={self.name}", *options]

    @property
    def address(self) -> str | None:
        """The Ray cluster that it names, if it does."""
        return self.options.get(kinds.KINDS[self.name].connects_to or "")


def facts(cfg: DictConfig, arguments: Sequence[str], place: Place | None = None) -> dict[str, Any]:
    """What a plan is to remember of this config, of which `place` is what an earlier plan had said.

    Only what somebody has chosen: the rest stays open. Secrets are taken out.
    """
    values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    options = dict(values["cluster"])
    name = options.pop("name")
    given = command_line.keys(arguments) | {f"cluster.{key}" for key in (place.options if place else ())}
    settings = {key: values[key] for key in command_line.KEPT}
    return {
        "cluster": name,
        "cluster_options": _chosen("cluster.", options, asdict(kinds.KINDS[name]()), given),
        "settings": _chosen("", settings, asdict(schema.Config()), given),
    }


def place(sweep: Sweep, cfg: DictConfig, arguments: Sequence[str]) -> Place | None:
    """Where the sweep's plan has it go on; None: the plan does not say, or this command says otherwise.

    Raises UsageError for what no plan of ours holds.
    """
    name, kept = sweep.facts.get("cluster"), sweep.facts.get("cluster_options")
    given = command_line.keys(arguments)
    if kept is None or ("cluster" in given and cfg.cluster.name != name):
        return None
    if not isinstance(name, str) or name not in kinds.KINDS or not isinstance(kept, Mapping):
        raise _unreadable(sweep, f"cluster={name}", f"one of {', '.join(kinds.KINDS)}")
    valid = asdict(kinds.KINDS[name]()).keys() - {"name"}
    if unknown := [str(key) for key in kept if key not in valid]:
        raise _unreadable(sweep, f"cluster.{unknown[0]}", f"one of {', '.join(sorted(valid))} for cluster={name}")
    return Place(name, _left(kept, given, "cluster."))


def going_on(cfg: DictConfig, sweep: Sweep, place: Place | None, arguments: Sequence[str]) -> DictConfig:
    """The config of a command that resumes this sweep, with what its plan remembers where these arguments are silent.

    Raises UsageError for what cannot be taken from there, as a password.
    """
    mine = cfg.copy()
    composed: Any = OmegaConf.to_container(cfg.tracking, resolve=True)
    lost: list[str] = []
    _take(mine.tracking, tracking(sweep, composed, arguments), "tracking.", sweep)
    if isinstance(settings := sweep.facts.get("settings"), Mapping):
        known = {key: value for key, value in settings.items() if key in command_line.KEPT}
        _take(mine, _left(known, command_line.keys(arguments), ""), "", sweep)
    if place is not None:
        if mine.cluster.name != place.name:
            mine.cluster = OmegaConf.structured(kinds.KINDS[place.name])
        lost += [key for key, value in place.options.items() if MARK in str(value)]
        _take(mine.cluster, place.options, "cluster.", sweep)
    if lost:
        raise UsageError(
            f"cluster.{key}: expected it with its secret, which the plan does not keep. Received: nothing. "
            "cluster=local goes on without it."
            for key in lost
        )
    return mine


def in_job(sweep: Sweep) -> bool:
    """Whether this process is a batch job's, whose command says where it found itself and not where to go on."""
    return os.environ.get(command_line.IN_JOB) == sweep.sweep_id


def keep(sweep: Sweep) -> None:
    """Have the plan remember what this submission was asked for; a job of the sweep may have changed other things.

    Where such a job runs now, it holds the plan, which stays as it is.
    """
    with contextlib.suppress(JournalError), Journal(sweep.folder) as journal:
        plan = journal.read_plan()
        facts = {**plan.facts, **{key: sweep.facts[key] for key in _FACTS if key in sweep.facts}}
        if facts != plan.facts:
            journal.write_plan(replace(plan, facts=facts))


def remedy(place: Place | None, problems: Sequence[str], name: str) -> list[str]:
    """What to do where a sweep cannot go on where its plan says, as one more sentence."""
    if not problems or place is None or kinds.KINDS[place.name].is_here:
        return []
    return [
        f"resume={name}: its plan goes on with {' '.join(place.elsewhere)}. cluster.KEY=VALUE changes that, "
        "cluster=local runs the rest on this machine."
    ]


def with_cluster(words: Sequence[str], find: Callable[[], Sweep]) -> list[str]:
    """The words of a command with the cluster that the resumed plan remembers, so that `cluster.KEY=` has a meaning.

    As they are where they choose a cluster, or set nothing of it.
    """
    given = command_line.keys(words)
    if "resume" not in given or "cluster" in given or not any(key.startswith("cluster.") for key in given):
        return list(words)
    try:
        facts = find().facts
    except UsageError:  # raised again, with all else that is wrong
        return list(words)
    if facts.get("cluster_options") is None or facts.get("cluster") not in kinds.KINDS:
        return list(words)
    at = next(index for index, word in enumerate(words) if "resume" in command_line.keys([word]))
    return [*words[:at], f"cluster={facts['cluster']}", *words[at:]]


def tracking(sweep: Sweep, composed: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """The `tracking` configuration with which a sweep goes on: its own but for what these arguments say of it.

    Where its plan does not keep the address's password, MLFLOW_TRACKING_URI is taken. Raises UsageError without that.
    """
    given = command_line.keys(arguments)
    if sweep.facts.get("tracking") is None or "tracking" in given:
        return dict(composed)
    try:
        stored = registry.stored(sweep.facts)
    except registry.SettingsError as error:
        raise UsageError([f"{sweep.folder}: {error}. tracking=mlflow or another one chooses anew."]) from error
    own = {"sinks": list(stored), **stored.get("mlflow", {})}
    kept = _left({key: own[key] for key in own.keys() & composed.keys()}, given, "tracking.")
    chosen = {**composed, **kept}
    if "mlflow" in chosen["sinks"] and is_redacted(uri := chosen["uri"]):
        if not (known := given_address()):
            where = "expected the sweep's address with its password, here or in MLFLOW_TRACKING_URI"
            raise UsageError([f"tracking.uri: {where}. Received: neither; the plan keeps {uri}."])
        chosen["uri"] = known
    elif "mlflow" in chosen["sinks"] and "uri" in kept and (problem := moved.lost(chosen["uri"])):
        raise UsageError([f"{problem}; name one with tracking.uri=sqlite:////PATH/mlflow.db"])
    return chosen


def _chosen(
    prefix: str, values: Mapping[str, Any], defaults: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    return {
        key: _without_secrets(value)
        for key, value in values.items()
        if value != defaults[key] or _is_given(prefix + key, given)
    }


def _left(kept: Mapping[str, Any], given: Collection[str], prefix: str) -> dict[str, Any]:
    """What of these remembered values the given keys leave to them."""
    return {key: value for key, value in kept.items() if not _is_given(f"{prefix}{key}", given)}


def _is_given(key: str, given: Collection[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in given)


def _take(into: DictConfig, values: Mapping[str, Any], prefix: str, sweep: Sweep) -> None:
    for key, value in values.items():
        try:
            into[key] = _literal(value)
        except OmegaConfBaseException as error:
            raise _unreadable(sweep, f"{prefix}{key}={value}", "a value of its type") from error


def _literal(value: Any) -> Any:
    """A value in which OmegaConf finds nothing to replace: it was replaced when the plan was made."""
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
    words = f"{sweep.folder}: expected its plan to remember {expected}. Received: {received:.200}"
    return UsageError([f"{words}. cluster=local chooses anew."])
