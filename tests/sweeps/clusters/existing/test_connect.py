"""The connection to a Ray cluster, with a fake Ray."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import auto_init_hook

from sweeps.clusters.existing import connect
from sweeps.clusters.existing.connect import Connection


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address where something listens, with a fake Ray that accepts everybody and, like Ray, handles SIGTERM."""

    def init(*_: Any, **__: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
    monkeypatch.setattr(auto_init_hook, "enable_auto_connect", True)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "a"))
    monkeypatch.setattr(connect, "Head", object)
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    signal.signal(signal.SIGTERM, before)


def test_sigterm_stays_the_sweeps_also_where_it_connects_anew(address: str) -> None:
    ours = signal.getsignal(signal.SIGTERM)
    with contextlib.closing(Connection(address, 1, {})) as connection:
        assert signal.getsignal(signal.SIGTERM) == ours
        connection.reopen()
        assert signal.getsignal(signal.SIGTERM) == ours


def test_ray_starts_no_cluster_of_its_own_where_the_sweeps_is_lost(address: str) -> None:
    with contextlib.closing(Connection(address, 1, {})):
        assert not auto_init_hook.enable_auto_connect
