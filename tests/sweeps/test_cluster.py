"""What every kind of cluster and every site does unless it says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sweeps.cluster import Cluster, Site, Surroundings


@dataclass
class Narrow(Cluster):
    width: int = 1

    def problems(self) -> list[str]:
        return [] if self.width > 0 else [f"cluster.width={self.width}: expected at least 1."]


def test_wrong_options_are_problems_of_the_whole_config() -> None:
    assert Narrow().config_problems({"batch": 1}) == []
    assert Narrow(width=0).config_problems({"batch": 1}) == ["cluster.width=0: expected at least 1."]


def test_a_callable_is_checked_by_its_source_here() -> None:
    assert Cluster().target_problems("nets.architectures.vgg.vgg16", {}) == []
    (problem,) = Cluster().target_problems("nets.architectures.vgg.vgg61", {})
    assert "nets.architectures.vgg has no 'vgg61'. Did you mean vgg16" in problem


def test_a_kind_without_a_site_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError):
        Cluster().site(Surroundings(lambda: "", lambda _: None, tmp_path))


def test_a_site_has_nothing_to_start_and_does_not_grow() -> None:
    site = Site()
    site.start()
    site.close()
    assert not site.may_grow
    with pytest.raises(NotImplementedError):
        site.nodes([], dry_run=True)
