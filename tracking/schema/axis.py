"""An axis of a sweep's grid: how names, curves, comparisons, tables and MLflow treat a field of `Trial`.

The functions here take a `tracking.record.Trial`, which is defined by means of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tracking.schema.flat import flatten, text_of

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

    name: str = ""
    """The field of `Trial`, the MLflow parameter and the column of the results table."""
    role: Role = "question"
    label: Callable[[Any], Label] | None = None
    """How tables and parameters show the value; None: as it is."""
    prefix: str = ""
    """What precedes the label in a name, e.g. `b=`."""
    words: Callable[[Any], Mapping[str, str]] | None = None
    """What a name may say of the axis, in parts that are shown only where they differ; None: prefix and label."""
    column: Literal["text", "integer"] | None = None
    """Type of its column in the results table; None: it has none."""
    timed: bool = False
    """It applies only to trials that time passes."""
    concerns: tuple[str, ...] | None = None
    """The passes that it is about; None: all. In the others, trials that differ in it repeat the same work."""
    of_model: bool = False
    """Names mention it only where trials of one model differ in it: two models differ in their arguments anyway."""
    of_memory: bool = True
    """Whether it affects how much memory a pass needs at a given batch size."""
    of_peak: bool = False
    """Whether it affects the highest rate that the device can reach."""
    neutral: Any = None
    """What `reset` sets it to where the field of `Trial` has no default."""

    def affects(self, pass_name: str) -> bool:
        """Whether it affects how long this pass takes."""
        return self.concerns is None or pass_name in self.concerns

    def label_of(self, trial: Any) -> Label:
        """The value as tables and parameters show it; None where it does not apply to the trial."""
        if self.timed and not trial.passes:
            return None
        value: Label = self.label(trial) if self.label else getattr(trial, self.name)
        return value

    def words_of(self, trial: Any) -> Mapping[str, str]:
        """What a name may say, by part; empty text where there is nothing to say."""
        if self.words:
            return self.words(trial)
        label = self.label_of(trial)
        return {self.name: "" if label is None else f"{self.prefix}{label}"}

    def params_of(self, trial: Any, plain: Mapping[str, Any]) -> dict[str, str]:
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


def axis(**row: Any) -> Mapping[str, Axis]:
    """Return the metadata of a field of `Trial` that is an axis with this row."""
    return {"axis": Axis(**row)}
