"""The axes of a sweep's grid, one row each: how names, curves, comparisons, tables and MLflow treat it.

A new axis takes a field of `tracking.record.Trial` (and of its `CAME_LATER`) with a row in `AXES`, an option in
`sweeps/request/schema.py` and `conf/config.yaml` (with its type in `sweeps.library.api.Keys` for callers in Python),
and the code that obeys it. Everything else reads this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal

from tracking.record import Trial
from tracking.text.flat import flatten, pairs, text_of

Role = Literal["question", "variant", "position", "repetition"]
"""What it means for two trials to differ in an axis:

- question: they measure different things, so they are on different curves and never compared;
- variant: they do the same work another way, so they are on different curves, which speed-ups compare;
- position: they are different points of one curve;
- repetition: they are the same point, measured more than once.
"""
Label = str | int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """One axis; the defaults suit a plain value that sets curves apart."""

    name: str
    """The field of `Trial`, the MLflow parameter and the column of the results table."""
    role: Role = "question"
    label: Callable[[Trial], str] | None = None
    """How tables and parameters show the value; None: as it is."""
    prefix: str = ""
    """What precedes the label in a name, e.g. `b=`."""
    words: Callable[[Trial], Mapping[str, str]] | None = None
    """What a name may say of the axis, in parts that are shown only where they differ; None: prefix and label."""
    column: Literal["text", "integer"] | None = None
    """Type of its column in the results table; None: it has none."""
    timed: bool = False
    """It applies only to trials that time passes."""
    of_model: bool = False
    """Names mention it only where trials of one model differ in it: two models differ in their arguments anyway."""
    of_memory: bool = True
    """Whether it affects how much memory a pass needs at a given batch size."""
    of_peak: bool = False
    """Whether it affects the highest rate that the device can reach."""
    neutral: Any = None
    """What `reset` sets it to where the field of `Trial` has no default."""

    def label_of(self, trial: Trial) -> Label:
        """The value as tables and parameters show it; None where it does not apply to the trial."""
        if self.timed and not trial.passes:
            return None
        value: Label = self.label(trial) if self.label else getattr(trial, self.name)
        return value

    def words_of(self, trial: Trial) -> Mapping[str, str]:
        """What a name may say, by part; empty text where there is nothing to say."""
        if self.words:
            return self.words(trial)
        label = self.label_of(trial)
        return {self.name: "" if label is None else f"{self.prefix}{label}"}

    def params_of(self, trial: Trial, plain: Mapping[str, Any]) -> dict[str, str]:
        """The MLflow parameters, those of nested values under dotted keys; `plain` is the trial as JSON."""
        value = plain[self.name]
        if self.label is None:
            return flatten({self.name: value})
        label = self.label_of(trial)
        if label is None:
            return {}
        nested = value if isinstance(value, Mapping) else {}
        details = {key: each for key, each in nested.items() if key != "name"}  # the label has the name
        return {self.name: text_of(label)} | flatten({self.name: details})


def _device_words(trial: Trial) -> dict[str, str]:
    device = trial.device
    return {
        "device": device.label,
        "resources": pairs(device.resources),
        "accelerator": device.accelerator or "",
        "node_labels": pairs(device.node_labels),
    }


def _layout_words(trial: Trial) -> dict[str, str]:
    return {"layout": "" if trial.layout == "channels_last" else trial.layout}


def _protocol_words(trial: Trial) -> dict[str, str]:
    protocol = trial.protocol
    settings = {field.name: getattr(protocol, field.name) for field in fields(protocol) if field.name != "name"}
    return {
        "protocol": protocol.name,
        **{f"protocol.{key}": f"{key}={text_of(value)}" for key, value in settings.items()},
    }


def _weights_words(trial: Trial) -> dict[str, str]:
    return {"weights": text_of(trial.as_typed.get("model.weights", trial.weights or ""))}


def _task_args_words(trial: Trial) -> dict[str, str]:
    given = {key: trial.as_typed.get(f"task.{key}", value) for key, value in trial.task_args.items()}
    return {f"task.{key}": "" if value is None else f"{key}={text_of(value)}" for key, value in given.items()}


AXES: tuple[Axis, ...] = (
    Axis(name="model", column="text"),
    Axis(name="batch", role="position", prefix="b=", column="integer", of_memory=False, neutral=1),
    Axis(
        name="device",
        role="variant",
        label=lambda trial: trial.device.label,
        words=_device_words,
        column="text",
        of_peak=True,
    ),
    Axis(name="precision", role="variant", column="text", of_peak=True),
    Axis(name="compile", role="variant", column="text"),
    Axis(name="layout", role="variant", words=_layout_words, column="text"),
    Axis(
        name="protocol",
        label=lambda trial: trial.protocol.name,
        words=_protocol_words,
        column="text",
        timed=True,
        of_memory=False,
    ),
    Axis(name="model_args", words=lambda trial: {"model_args": pairs(trial.model_args)}, of_model=True),
    Axis(name="inputs", words=lambda trial: {"inputs": pairs(trial.inputs)}),
    Axis(name="target", of_model=True),
    Axis(name="weights", words=_weights_words, of_model=True),
    Axis(name="task"),
    Axis(name="task_args", words=_task_args_words),
    Axis(
        name="passes",
        label=lambda trial: ",".join(trial.passes),
        words=lambda trial: {"passes": "+".join(trial.passes)},
        timed=True,
        of_memory=False,
    ),
    Axis(name="seed", prefix="seed=", of_memory=False),
    Axis(name="repeat", role="repetition", prefix="r=", column="integer", of_memory=False),
)
"""Every field of `Trial` that is part of its id, in the order in which names and tables show them."""


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


def point_of(trial: Trial) -> Trial:
    """What all repeats of a trial share."""
    return reset(trial, of_role("repetition"))


def line_of(trial: Trial) -> Trial:
    """What all points of a curve over batch size share."""
    return reset(trial, of_role("position", "repetition"))


def question_of(trial: Trial) -> Trial:
    """What all variants of a curve share: the work itself, whatever it runs on and however it is compiled."""
    return reset(trial, of_role("variant", "position", "repetition"))


def variant_of(trial: Trial) -> tuple[Label, ...]:
    """How the work is done, as labels: what a rate measured on one trial holds for."""
    return tuple(axis.label_of(trial) for axis in of_role("variant"))


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
