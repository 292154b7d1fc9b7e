"""The configs of one command: the trials of each, and the keys in which all of them must agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from sweeps.request import schema
from sweeps.typed.command_line import text
from sweeps.typed.keys import SETTINGS
from tracking.record import Trial

_SHARED = (
    *("cluster", "tracking", "profile", "order", "objective", "resume", "rerun", "trust", "dry_run"),
    *SETTINGS,
)
"""Keys that belong to the whole sweep and not to each of its trials."""


def read(first: DictConfig, others: Iterator[DictConfig]) -> tuple[list[list[Trial]], list[str]]:
    """Return each config's trials, one per repeat, and the configs' problems. Raises UsageError as `schema.read`."""
    points: list[list[Trial]] = []
    problems: list[str] = []
    for cfg in itertools.chain([first], others):
        trial, of_config = schema.read(cfg)
        problems += of_config
        if cfg is not first:
            problems += unlike(first, cfg)
        points.append(repeats(trial, cfg))
    return points, problems


def unlike(first: DictConfig, other: DictConfig) -> list[str]:
    """Return a sentence for each key of the whole sweep that two of its configs set differently."""
    return [_disagreement(key, first[key], other[key]) for key in _SHARED if other[key] != first[key]]


def repeats(trial: Trial, cfg: DictConfig) -> list[Trial]:
    """Return the trial once for each repeat that its config asks for."""
    return [replace(trial, repeat=repeat) for repeat in range(cfg.repeats)]


def _disagreement(key: str, one: Any, other: Any) -> str:
    """Return the sentence for such a key, or for the first key below it that differs."""
    if isinstance(one, DictConfig) and isinstance(other, DictConfig):
        for name in dict.fromkeys(["name", *one, *other]):
            values = [cfg.get(name) for cfg in (one, other)]
            if values[0] != values[1]:
                return _disagreement(key if name == "name" else f"{key}.{name!s}", *values)
    first, second = (text(getattr(value, "name", value)) for value in (one, other))
    return f"{key}={second}: {key} applies to the whole sweep, expected one value. Received: {first} and {second}."
