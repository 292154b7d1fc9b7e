"""A result's single figures as MLflow metrics, and back: each encoding stands beside its decoding.

A pass's figures are `forward/mean_s` and the like, what speaks for or against them `forward/evidence/NAME`, the
process's `memory/NAME`, the trial's other seconds `phases/NAME_s` and `wall_s`, the device's limits `limits/NAME`. A
task's figures keep their own names, but for those of which there is a curve: `best/NAME`, since MLflow shows the last
point of a curve as its value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tracking.analysis.metrics import figures_of
from tracking.record import Pass, Result, Trial
from tracking.schema.flat import flatten

_WALL, _EVIDENCE, _PHASES, _LIMITS, _MEMORY, _BEST = "wall_s", "evidence/", "phases/", "limits/", "memory/", "best/"


def encoded(result: Result) -> dict[str, float]:
    """Every figure but the task's, by key."""
    figures = figures_of(result)
    for name, measurement in result.passes.items():
        figures[f"{name}/steps"] = len(measurement.step_s)
        figures |= {f"{name}/{_EVIDENCE}{key}": value for key, value in measurement.evidence.items()}
    figures |= {f"{_PHASES}{name}_s": value for name, value in result.phases.items()}
    figures |= {f"{_LIMITS}{name}": value for name, value in result.limits.items()}
    return figures | {_WALL: result.wall_s}


def wall_s(figures: Mapping[str, float]) -> float:
    """Seconds from dispatch to result; 0 where they were not recorded."""
    return figures.get(_WALL, 0.0)


def of_pass(figures: Mapping[str, float], name: Pass) -> dict[str, float]:
    """The figures of one pass, by name; those of its evidence still begin with `evidence/`."""
    return _below(figures, f"{name}/")


def evidence(pass_figures: Mapping[str, float]) -> dict[str, float]:
    """The evidence among the figures of one pass, by name."""
    return _below(pass_figures, _EVIDENCE)


def phases(figures: Mapping[str, float]) -> dict[str, float]:
    """Seconds around the passes, by phase."""
    return {name.removesuffix("_s"): value for name, value in _below(figures, _PHASES).items()}


def limits(figures: Mapping[str, float]) -> dict[str, float]:
    """What the device can do, by name."""
    return _below(figures, _LIMITS)


def encoded_of_task(result: Result) -> Iterator[tuple[str, float]]:
    """The task's figures, by key."""
    for key, value in result.metrics.items():
        yield f"{_BEST}{key}" if key in result.curves else key, value


def keys_of_task(figures: Mapping[str, float], trial: Trial) -> list[str]:
    """The keys that are the task's, curves included."""
    ours = (*(f"{name}/" for name in trial.passes), _MEMORY, _PHASES, _LIMITS)
    return [key for key in figures if key != _WALL and not key.startswith(ours)]


def of_task(figures: Mapping[str, float], trial: Trial, curves: Mapping[str, object]) -> dict[str, float]:
    """The task's figures, by their own names."""
    values = {key: figures[key] for key in keys_of_task(figures, trial) if key not in curves}
    names = {key: key.removeprefix(_BEST) if key.removeprefix(_BEST) in curves else key for key in values}
    return {names[key]: value for key, value in values.items()}


def in_force(settings: Mapping[str, object]) -> str:
    """What was in force in a pass, or of what its inputs were, as one tag."""
    return ", ".join(f"{key} {text}" for key, text in flatten(settings).items())


def fed(text: str) -> dict[str, dict[str, Any]]:
    """From the tag about inputs, shape and length of each by its name; of a tag that was cut, those that are left."""
    inputs: dict[str, dict[str, Any]] = {}
    for name, key, value in re.findall(r"(?:^|, )(\S+)\.(shape|length) (\[[\d, ]*\]|\d+)(?=,|$)", text):
        inputs.setdefault(name, {})[key] = json.loads(value)
    return inputs


def doubts(quality: str) -> tuple[str, ...]:
    """The reasons in a `quality` tag, which `verdict` joins: each ends with its pass, and may hold a semicolon."""
    return () if quality in ("", "good") else tuple(re.split(r"(?<=\)); ", quality))


def _below(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {key.removeprefix(prefix): value for key, value in figures.items() if key.startswith(prefix)}
