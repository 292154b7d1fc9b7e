"""Every choice of `cluster=` has its kind, with the options that its file documents."""

from __future__ import annotations

from dataclasses import fields

import pytest
import yaml
from hydra import compose

from sweeps.clusters.inline import Inline
from sweeps.clusters.kinds import KINDS, of_config, of_values
from sweeps.clusters.local import Local
from sweeps.jobs.job import BatchJob
from sweeps.jobs.kinds import BATCH_KINDS
from sweeps.jobs.kinds.slurm import Slurm
from sweeps.typed.arguments import HERE
from tests.support.sweep_command import ROOT

FILES = {path.stem: path for path in sorted((ROOT / "conf" / "cluster").glob("*.yaml"))}


def test_every_file_has_its_kind_and_every_kind_its_file() -> None:
    assert FILES.keys() == KINDS.keys()
    assert BATCH_KINDS.items() <= KINDS.items()
    assert {name for name, kind in KINDS.items() if issubclass(kind, BatchJob)} == BATCH_KINDS.keys()


@pytest.mark.parametrize("name", FILES)
def test_the_keys_of_a_file_are_the_options_of_its_kind(name: str) -> None:
    keys = yaml.safe_load(FILES[name].read_text(encoding="utf-8")).keys() - {"defaults"}
    assert keys == {field.name for field in fields(KINDS[name])} - {"name"}


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("name", FILES)
def test_a_config_becomes_the_cluster_that_it_names(name: str) -> None:
    cluster = of_config(compose("config", [f"cluster={name}"]))
    assert type(cluster) is KINDS[name]
    assert cluster.name == name
    assert cluster.is_batch is (name in BATCH_KINDS)


@pytest.mark.usefixtures("hydra")
def test_options_reach_the_cluster_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITION", "night")
    cluster = of_config(
        compose("config", ["cluster=slurm", "cluster.nodes=3", "cluster.partition=${oc.env:PARTITION}"])
    )
    assert isinstance(cluster, Slurm)
    assert (cluster.nodes, cluster.partition) == (3, "night")


def test_values_become_the_cluster_that_they_name() -> None:
    assert of_values({"name": "inline"}) == Inline()
    assert of_values({"name": "local", "cpus": 2, "gpus": 0}) == Local(cpus=2, gpus=0)
    with pytest.raises(TypeError, match="nodes"):
        of_values({"name": "local", "nodes": 2})


def test_the_kinds_that_are_this_machine_are_known_before_they_are_imported() -> None:
    assert set(HERE) == {name for name, kind in KINDS.items() if kind.is_here}
