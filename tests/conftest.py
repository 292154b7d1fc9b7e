"""Fixtures that several packages' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sweeps.forkserver import ForkServer


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a warm fork server; one for the whole run, because it takes seconds to warm."""
    with ForkServer() as running:
        running.wait_ready()
        yield running.address
