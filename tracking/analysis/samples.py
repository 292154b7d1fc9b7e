"""What the samples of a batch are, images or others, and how many time steps each of them has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tracking.record import Result, Trial

Kind = Literal["images", "samples"]

_CHANNELS = (1, 3, 4)
"""Channels of an image: grey; red, green and blue; and with transparency."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The samples of one batch."""

    count: int
    kind: Kind = "images"
    length: int | None = None
    """Time steps of each sample, such as the tokens of a text; None: not known, or not the same for all inputs."""

    @property
    def tokens(self) -> int | None:
        """Time steps of the whole batch."""
        return None if self.length is None else self.count * self.length


def samples_of(result: Result) -> Samples:
    """What the trial's process says that it fed; where it says nothing, what the trial shows."""
    trial, fed = result.trial, _fed(result)
    if not fed:
        of_ours = trial.target is None and trial.path is None
        length = trial.inputs.get("length")
        return Samples(count=trial.batch, kind="images" if of_ours else "samples", length=_length([length]))
    lengths = [facts["length"] for facts in fed.values() if "length" in facts]
    return Samples(count=trial.batch, kind=_kind(trial, [*fed.values()]), length=_length(lengths))


def kind_of(results: Iterable[Result]) -> Kind:
    """What to call the samples of all these results: images where all that were measured are, else samples."""
    kinds = {samples_of(result).kind for result in results if result.passes}
    return "samples" if "samples" in kinds else "images"


def _fed(result: Result) -> Mapping[str, Mapping[str, Any]]:
    """Facts about each input by its name: `dtype`, `shape` with the batch first, `length` where it has a time axis."""
    in_force: Mapping[str, Mapping[str, Any]] = result.host.get("in_force", {})
    return {name: facts for name, facts in in_force.get("inputs", {}).items() if isinstance(facts, Mapping)}


def _kind(trial: Trial, fed: list[Mapping[str, Any]]) -> Kind:
    shape = fed[0].get("shape")
    if len(fed) > 1 or not isinstance(shape, list | tuple) or len(shape) != 4:
        return "samples"
    return "images" if shape[1 if trial.layout == "channels_first" else 3] in _CHANNELS else "samples"


def _length(lengths: list[Any]) -> int | None:
    """The length that all of them are, if it is more than one step."""
    first = lengths[0] if lengths else None
    if not isinstance(first, int) or isinstance(first, bool) or first < 2:
        return None
    return first if all(length == first for length in lengths) else None
