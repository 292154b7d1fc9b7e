"""This machine as a node of a sweep."""

from __future__ import annotations

from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from sweeps.errors import UsageError
from sweeps.jobs import batch
from sweeps.machine import cores, host
from sweeps.machine.node import Node, limits


def this_node() -> Node:
    """What this machine offers to trials."""
    return Node(
        cpus=len(cores.available()), gpus=host.gpu_count(), accelerator=host.accelerator(), **limits(host.facts())
    )


def node(cluster: DictConfig) -> Node:
    """This machine, or as much of it as `cluster` allows; of a batch job, what its nodes will offer.

    Raises UsageError for more cores than there are.
    """
    if cluster.name in batch.KINDS:
        return batch.node(OmegaConf.to_object(cluster))
    here = this_node()
    allowed = {key: cluster[key] for key in ("cpus", "gpus") if cluster.get(key) is not None}
    if (cpus := allowed.get("cpus", 1)) > here.cpus:
        limit = f" ({here.container})" if here.cpu_quota is not None else ""
        raise UsageError([f"cluster.cpus={cpus}: expected between 1 and {here.cpus} cores{limit}. Received: {cpus}."])
    return replace(here, **allowed)
