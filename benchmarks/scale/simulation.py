"""A simulated sweep: how much of the nodes' time goes into trials when one driver serves them all."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping

LENGTHS_S = (1.0, 10.0, 60.0)
NODES = (1, 10, 100, 1000)
SPREAD = 0.3
"""Relative standard deviation of the simulated trials' lengths."""


def simulate(trials: int, nodes: int, length_s: float, driver_s: float, seed: int = 0) -> tuple[float, float]:
    """Return the wall seconds, and the share of the nodes' time that is spent in trials.

    A trial that ends on its node waits for its turn at the driver, which takes `driver_s` to record it and to hand out
    the next one to that node.
    """
    generator = random.Random(seed)
    ends: list[float] = []
    free_at = busy_s = 0.0
    for handed_out in range(trials):
        if handed_out >= nodes:
            free_at = max(free_at, heapq.heappop(ends))
        free_at += driver_s
        length = max(0.0, generator.gauss(length_s, SPREAD * length_s))
        busy_s += length
        heapq.heappush(ends, free_at + length)
    wall_s = max(ends) + driver_s
    return wall_s, busy_s / (nodes * wall_s)


def table(trials: int, driver_s: Mapping[str, float]) -> str:
    """Return a text table of hours and shares: a row for each of `driver_s`, seconds per result, and trial length."""
    lines = [f"{'':16}{'trial':>8}" + "".join(f"{nodes:>12,} nodes" for nodes in NODES)]
    for label, seconds in driver_s.items():
        for length_s in LENGTHS_S:
            cells = [simulate(trials, nodes, length_s, seconds) for nodes in NODES]
            row = "".join(f"{wall / 3600:11.2f} {share:6.0%}" for wall, share in cells)
            lines.append(f"{label:16}{length_s:6g} s{row}")
    return "\n".join(lines)
