"""Protocols: how a pass is warmed up and when its timing stops, as data.

`sweeps.tasks.timing.loop` has the rule that each of them stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from tracking.schema.fields import Count, Seconds
from tracking.schema.reading import Within


@dataclass(frozen=True, kw_only=True)
class Classic:
    """The protocol of TensorFlow-benchmark articles: `burn_in` untimed steps, then `steps` timed ones."""

    burn_in: Count = 10
    steps: Annotated[int, Within(1, 2**53)] = 100
    name: Literal["classic"] = "classic"

    AT_LEAST: ClassVar[Mapping[str, int | str]] = {"burn_in": 0, "steps": 1}
    """The smallest value that makes sense, by field: a number, or the field that it must not be below."""
    ABOVE: ClassVar[Mapping[str, float]] = {}
    """Values that a field must exceed."""

    def likely_s(self, step_s: float) -> float:
        """Return about how long a pass takes whose steps take `step_s`, in seconds."""
        return step_s * (1 + self.burn_in + self.steps)

    @property
    def most_s(self) -> float | None:
        """How long a pass can take at most, in seconds; None: there is no limit."""
        return None


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Time until the median is known well enough, the noise has stopped shrinking, or the budget is spent."""

    target: Annotated[float, Within(0, 1e12)] = 0.01
    """Half width of the median's 95% confidence interval, as a share of the median."""
    min_steps: Count = 10
    max_steps: Count = 10_000
    max_seconds: Seconds = 20.0
    """Budget of one pass's timed steps, seconds."""
    max_warmup_seconds: Seconds = 10.0
    """Warm-up ends when the step time has settled, and at the latest after this many seconds."""
    name: Literal["adaptive"] = "adaptive"

    AT_LEAST: ClassVar[Mapping[str, int | str]] = {"min_steps": 1, "max_steps": "min_steps", "max_warmup_seconds": 0}
    ABOVE: ClassVar[Mapping[str, float]] = {"target": 0, "max_seconds": 0}
    _STEPS_TO_SETTLE: ClassVar[int] = 5
    _STEPS_TO_KNOW: ClassVar[int] = 40
    """Steps after which the warm-up has usually settled, and the median is usually known."""

    def likely_s(self, step_s: float) -> float:
        """Return about how long a pass takes whose steps take `step_s`, in seconds."""
        warmup = min(self.max_warmup_seconds, self._STEPS_TO_SETTLE * step_s)
        timed = max(self.min_steps * step_s, min(self.max_seconds, self._STEPS_TO_KNOW * step_s))
        return 3 * step_s + warmup + timed

    @property
    def most_s(self) -> float | None:
        """How long a pass can take at most, in seconds."""
        return self.max_seconds + self.max_warmup_seconds


Protocol = Classic | Adaptive
PROTOCOLS: Mapping[str, type[Protocol]] = {kind.name: kind for kind in get_args(Protocol)}
