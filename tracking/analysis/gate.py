"""Decides whether a comparison fails: by losses, and by the verdicts and intervals that must not pass."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tracking.analysis.verdicts import Comparison, Loss, Verdict

FAIL_ON: dict[str, AbstractSet[Verdict]] = {"slower": {"SLOWER"}, "undecided": {"SLOWER", "UNDECIDED"}}
"""The verdicts that fail, by the words of `--fail-on`: whoever fails on doubt fails on slow-downs too."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The conditions; any one of them that is not met fails the comparison."""

    fail_on: AbstractSet[Verdict] = frozenset()
    largest: float | None = None
    """The slow-down that every interval has to exclude, as a share; None: none."""
    allow_lost: bool = False

    def failures(self, comparisons: Sequence[Comparison], losses: Sequence[Loss], unfinished: int) -> list[str]:
        """A line with the reasons for each trial that fails the gate; empty: the comparison passes.

        `unfinished` is the number of NEW's planned trials without a result.
        """
        lines = []
        for comparison in comparisons:
            if reasons := self._reasons(comparison):
                ratio, low, high = comparison.ratio
                lines.append(f"{comparison.label}: {' and '.join(reasons)}, {ratio:.3f} ({low:.3f}-{high:.3f})")
        if not self.allow_lost:
            lines += map(str, losses)
            if unfinished:
                lines.append(f"NEW is not finished: {unfinished} planned trials have no result")
        if not comparisons:
            lines.append("nothing was measured on both sides, so nothing was compared")
        return lines

    def _reasons(self, comparison: Comparison) -> list[str]:
        reasons: list[str] = [comparison.verdict] if comparison.verdict in self.fail_on else []
        if self.largest is not None and comparison.ratio.high > 1 + self.largest:
            reasons.append(f"a slow-down of {100 * self.largest:g}% is not excluded")
        return reasons
