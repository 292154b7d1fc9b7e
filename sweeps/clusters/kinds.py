"""The kinds of cluster by name: those that run a command's trials, and those that take a whole sweep as a batch job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweeps.cluster import Cluster
from sweeps.clusters.existing.site import RayCluster
from sweeps.clusters.inline import Inline
from sweeps.clusters.local import Local
from sweeps.jobs.kinds import BATCH_KINDS

KINDS: Mapping[str, type[Cluster]] = {
    "inline": Inline,
    "local": Local,
    "ray": RayCluster,
    **BATCH_KINDS,
}


def of_config(cfg: DictConfig) -> Cluster:
    """Return the cluster that a composed config chooses, with its options."""
    return of_values(OmegaConf.to_container(cfg.cluster, resolve=True))


def of_values(cluster: Any) -> Cluster:
    """Return the cluster that these values of the config's group `cluster` describe."""
    return KINDS[cluster["name"]](**cluster)
