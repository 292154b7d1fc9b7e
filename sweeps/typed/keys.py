"""The keys of a sweep with their types in Python, and which of them are settings: how the whole sweep runs."""

# No `from __future__ import annotations` here: the annotations are read when the program runs.
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, TypeVar

from tracking.record import Compile, Layout, Pass, Precision

Scalar: TypeAlias = str | int | float | bool | os.PathLike[str] | None
Value: TypeAlias = "Scalar | Sequence[Value] | Mapping[str, Value]"
T = TypeVar("T")
Grid: TypeAlias = T | list[T]
"""One value, or a list of values to sweep over."""
Group: TypeAlias = Grid[str] | Mapping[str, Value]
"""A choice, several choices, or values by key."""


@dataclass(frozen=True)
class Setting:
    """A key that says how the whole sweep runs and that affects no timing.

    All points of a grid share it. The plan remembers it, so that a resumed sweep and a batch job go on as before.
    """

    default: Any
    at_least: float | None = None
    """The smallest value that makes sense."""


class Keys(TypedDict, total=False):
    """The keys of a sweep, as `conf/config.yaml` and the README explain them."""

    model: Group
    batch: Grid[int]
    device: Group
    inputs: Mapping[str, Value]
    passes: Sequence[Pass | Sequence[Pass]]
    optimizer: Group
    loss: Grid[str | None]
    precision: Grid[Precision]
    compile: Grid[Compile]
    layout: Grid[Layout]
    protocol: Group
    task: Group
    cluster: str | Mapping[str, Value]
    tracking: str | Mapping[str, Value]
    repeats: int
    seed: Grid[int]
    timeout_s: float | None
    resume: str | os.PathLike[str] | None
    rerun: Literal["failed"] | None
    trust: bool | None
    calibrate: Annotated[bool, Setting(True)]
    retries: Annotated[int, Setting(1, at_least=0)]
    oom_ceiling: Annotated[bool, Setting(True)]
    fail_fast: Annotated[int | None, Setting(None, at_least=1)]
    order: Literal["grid", "interleaved"] | None
    objective: str | None
    dry_run: bool
    profile: bool


SETTINGS: Mapping[str, Setting] = {
    key: extra
    for key, kind in Keys.__annotations__.items()
    for extra in getattr(kind, "__metadata__", ())
    if isinstance(extra, Setting)
}
"""By key."""
