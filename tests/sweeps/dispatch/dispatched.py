"""What tests of the dispatch on a Ray without processes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.dispatch.context import Context
from sweeps.dispatch.fleet import Fleet
from sweeps.worker.on_node import Place
from tracking.record import Result, Trial


def context_of(fleet: Fleet, folder: Path, **fields: Any) -> Context:
    """Return the context of a sweep in `folder` on the nodes of `fleet`, which need no fork server."""
    node = fleet.slots[0].node
    return Context(sweep_id="s", folder=folder, server=lambda: "", node=node, fleet=fleet, **fields)


def ended(trial: Trial, place: Place) -> Result:
    """Return the trial's good result on the node of `place`."""
    return Result(trial=trial, sweep_id="s", status="ok", host={"node_id": place.node.node_id})
