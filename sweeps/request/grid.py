"""The configs of one command, read together: each one's trials, and what has to be alike in all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from sweeps.request import schema
from sweeps.typed.command_line import text
from tracking.record import Trial

_SHARED = (
    *("cluster", "tracking", "calibrate", "profile", "order", "objective"),
    *("resume", "rerun", "trust", "retries", "oom_ceiling", "fail_fast", "dry_run"),
)
"""Keys that a sweep has once, not each of its trials."""


def read(first: DictConfig, others: Iterator[DictConfig]) -> tuple[list[list[Trial]], list[str]]:
    """Each config's trials, one a repeat, and what is wrong with the configs. Raises UsageError as `schema.read`."""
    points: list[list[Trial]] = []
    found: list[str] = []
    for cfg in itertools.chain([first], others):
        trial, wrong = schema.read(cfg)
        found += wrong
        if cfg is not first:
            found += unlike(first, cfg)
        points.append(repeats(trial, cfg))
    return points, found


def unlike(first: DictConfig, other: DictConfig) -> list[str]:
    """A sentence for each key of the whole sweep that two of its configs set differently."""
    return [_several(key, first[key], other[key]) for key in _SHARED if other[key] != first[key]]


def repeats(trial: Trial, cfg: DictConfig) -> list[Trial]:
    """The trial as often as its config asks for it."""
    return [replace(trial, repeat=repeat) for repeat in range(cfg.repeats)]


def _several(key: str, one: Any, other: Any) -> str:
    """The sentence for a key of the whole sweep that two configs set differently."""
    if isinstance(one, DictConfig) and isinstance(other, DictConfig):
        for name in dict.fromkeys(["name", *one, *other]):
            values = [cfg.get(name) for cfg in (one, other)]
            if values[0] != values[1]:
                return _several(key if name == "name" else f"{key}.{name!s}", *values)
    first, second = (text(getattr(value, "name", value)) for value in (one, other))
    return f"{key}={second}: {key} is the whole sweep's, expected one value. Received: {first} and {second}."
