"""The table of axes: every field of `tracking.record.Trial` that is part of its id, with the row that it states.

Names, curves, comparisons, tables, estimates and MLflow read this table and name no axis themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields, replace
from typing import Any

from tracking.record import Pass, Trial
from tracking.schema.axis import Axis, Label, Role

AXES: tuple[Axis, ...] = tuple(
    replace(field.metadata["axis"], name=field.name) for field in fields(Trial) if "axis" in field.metadata
)
"""In the order in which names and tables show them."""


def of_role(*roles: Role) -> list[Axis]:
    """The axes that have one of these roles."""
    return [axis for axis in AXES if axis.role in roles]


def reset(trial: Trial, axes: Iterable[Axis]) -> Trial:
    """The trial with these axes at their defaults, and without time limit and profile, which affect no number.

    Trials that differ in nothing else give equal trials.
    """
    defaults = {axis.name: _default(axis, trial) for axis in axes} | {"timeout_s": None, "profile": False}
    changes = {name: value for name, value in defaults.items() if getattr(trial, name) != value}
    return replace(trial, **changes) if changes else trial


def as_timed_by(trial: Trial, pass_name: Pass) -> Trial:
    """The trial with the axes that this pass is not about at their defaults.

    Trials that give equal ones do the same work in it.
    """
    return reset(trial, [axis for axis in AXES if not axis.affects(pass_name)])


def point_of(trial: Trial) -> Trial:
    """What all repeats of a trial share."""
    return reset(trial, of_role("repetition"))


def line_of(trial: Trial) -> Trial:
    """What all points of a curve over batch size share."""
    return reset(trial, of_role("position", "repetition"))


def question_of(trial: Trial) -> Trial:
    """What all variants of a curve share: the work itself, whatever it runs on and however it is compiled."""
    return reset(trial, of_role("variant", "position", "repetition"))


def variant_of(trial: Trial, pass_name: Pass) -> tuple[Label, ...]:
    """How the work of this pass is done, as labels: what a rate measured on one trial holds for."""
    return tuple(axis.label_of(trial) for axis in of_role("variant") if axis.affects(pass_name))


def peak_of(trial: Trial) -> tuple[Label, ...]:
    """What a device's highest rate depends on, as labels, e.g. `("cpu", "float32")`."""
    return tuple(axis.label_of(trial) for axis in AXES if axis.of_peak)


def params_of(trial: Trial) -> dict[str, str]:
    """Every axis of the trial as MLflow parameters: first the axes themselves, then nested values by dotted keys."""
    plain = trial.to_json()
    params: dict[str, str] = {}
    for axis in AXES:
        params |= axis.params_of(trial, plain)
    return {key: params[key] for key in sorted(params, key=lambda key: "." in key)}


def _default(axis: Axis, trial: Trial) -> Any:
    field = type(trial).__dataclass_fields__[axis.name]
    if field.default is not MISSING:
        return field.default
    return axis.neutral if field.default_factory is MISSING else field.default_factory()
