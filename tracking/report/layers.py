"""The report's layer tables, and the nets whose operations are not all counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from tracking.analysis.curves import PASS_TITLES
from tracking.record import Layer, Pass, Result
from tracking.schema import axis_words
from tracking.schema.flat import flatten

_MOST_ROWS = 20_000
"""Layers in one report, all nets together."""


class Net(NamedTuple):
    """A net's layers at one batch size."""

    title: str
    layers: tuple[Layer, ...]

    @property
    def trainable_params(self) -> int:
        """Trainable parameters of all layers."""
        return sum(layer.trainable_params for layer in self.layers)

    @property
    def forward_gflop(self) -> float:
        """GFLOP of a forward pass."""
        return sum(layer.flops for layer in self.layers) / 1e9

    @property
    def all_counted(self) -> bool:
        """Whether the operations of every layer are counted."""
        return not any("not counted" in layer.kind for layer in self.layers)


class Nets(NamedTuple):
    """The layers of a sweep's nets."""

    nets: list[Net]
    left_out: bool
    """Whether there are more nets than one page should hold."""
    notes: list[str]
    """On nets whose operations are not all counted."""


def nets(results: Sequence[Result]) -> Nets:
    """Each net once, as its first result with layers has it: only the batch size differs in the others."""
    layers: dict[str, Net] = {}
    for result in results:
        trial = result.trial
        arguments = " ".join(f"{key}={text}" for key, text in sorted(flatten(trial.model_args).items()))
        path = axis_words.path_words(trial)["path"]
        name = " ".join(filter(None, (trial.model, arguments, trial.target, path)))
        if result.layers and name not in layers:
            layers[name] = Net(f"{name}, batch {trial.batch}", result.layers)
    shown = [
        net
        for net, rows in zip(layers.values(), accumulate(len(net.layers) for net in layers.values()), strict=True)
        if rows <= _MOST_ROWS
    ]
    return Nets(shown, left_out=len(shown) < len(layers), notes=_uncounted_flops(results))


def _uncounted_flops(results: Iterable[Result]) -> list[str]:
    """A sentence for each net and reason whose rates are missing because its operations are not all counted."""
    sentences: dict[str, None] = {}
    for result in results:
        for name, measured in result.passes.items():
            reason = _in_force(result, name).get("flops")
            if measured.flops is None and reason:
                sentence = f"FLOPs of {result.trial.model} {PASS_TITLES[name]} are {reason}."
                sentences[f"{sentence} Its rate, share of the peak and place under the roofline are left out."] = None
    return list(sentences)


def _in_force(result: Result, pass_name: Pass) -> Mapping[str, Any]:
    """The settings that the trial's process found to be in force in a pass; empty where it recorded none."""
    passes = result.host.get("in_force")
    facts = passes.get(pass_name) if isinstance(passes, Mapping) else None
    return facts if isinstance(facts, Mapping) else {}
