"""Hydra, for tests that compose configs as a command does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra

from sweeps.request import options
from tests.support.sweep_command import ROOT


@pytest.fixture
def hydra() -> Iterator[ConfigLoader]:
    """Hydra at `conf/`, which `hydra.compose` uses for as long as the test runs; gives its loader."""
    options.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        yield GlobalHydra.instance().config_loader()
