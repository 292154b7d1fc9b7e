"""The points of the GPU tables, the most informative first; those that there is no time for are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tracking.record import Compile, Precision, Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Adaptive, Classic

NETS = ("vgg16", "resnet_v2_50", "inception_v3", "alexnet", "resnet_v2_101", "resnet_v2_152", "resnet_v2_200")
COMPARED = ("vgg16", "resnet_v2_50")
"""Nets that benchmarks/peers/torch_step.py also has."""
# Half a second per pass: a step takes about a hundredth of that, and no point is worth more of the ten minutes.
QUICK = Adaptive(target=0.02, min_steps=10, max_seconds=0.5, max_warmup_seconds=1.0)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The whole grid, of which a run measures as much as time allows."""

    device: Device
    nets: tuple[str, ...] = NETS
    compared: tuple[str, ...] = COMPARED
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    precisions: tuple[Precision, ...] = ("bfloat16", "tf32", "float32")
    """The fastest first."""
    compiles: tuple[Compile, ...] = ("graph", "xla")
    model_args: tuple[tuple[str, Any], ...] = ()
    full_batch: int = 256
    """The batch at which every net and mode is compared."""
    slow_batch: int = 64
    """The same, for the slower precisions."""
    search: bool = True
    """Whether to look for the largest batch; a processor's memory takes long to fill."""

    def trial(self, net: str, batch: int, precision: Precision, compile_: Compile) -> Trial:
        return Trial(
            model=net,
            batch=batch,
            model_args=dict(self.model_args),
            device=self.device,
            precision=precision,
            compile=compile_,
            protocol=QUICK,
        )


def points(grid: Grid) -> list[Trial]:
    """Return every point of the grid, the most informative first.

    1. Every net at the full batch in the fastest precision, as a graph; 2. the compared nets with XLA; 3. the compared
    nets' curves over batch sizes; 4. every net in the slower precisions; 5. XLA for the other nets; 6. their curves;
    7. the rest.
    """
    everything = list(product(grid.nets, grid.batches, grid.precisions, grid.compiles))
    order = sorted(range(len(everything)), key=lambda index: (_stage(grid, *everything[index]), index))
    return [grid.trial(*everything[index]) for index in order]


def _stage(grid: Grid, net: str, batch: int, precision: Precision, compile_: Compile) -> int:
    fastest, compared, graph = precision == grid.precisions[0], net in grid.compared, compile_ == "graph"
    if fastest and batch == grid.full_batch:
        return 1 if graph else 2 if compared else 5
    if fastest and graph:
        return 3 if compared else 6
    return 4 if graph and batch == grid.slow_batch else 7


def doublings(grid: Grid, net: str) -> Iterator[Trial]:
    """Yield training steps at ever larger batches, to be measured until one runs out of memory."""
    once = Classic(burn_in=0, steps=1)
    batch = grid.batches[-1]
    while batch <= 2**16:
        trial = grid.trial(net, batch, grid.precisions[0], "graph")
        yield replace(trial, passes=("forward_backward",), protocol=once)
        batch *= 2
