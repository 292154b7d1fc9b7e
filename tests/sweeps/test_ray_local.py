from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from sweeps.devices import Node
from sweeps.ray_local import ray_on_this_machine


def test_our_ray_is_one_of_our_own_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # somebody else's cluster
    with ray_on_this_machine(Node(cpus=1)):
        import ray

        assert ray.cluster_resources()["CPU"] == 1
        folder = Path(ray.get_runtime_context().get_session_name())
        found = list(Path(tempfile.gettempdir(), "ray").glob(folder.name))
        assert len(found) == 1
    assert not found[0].exists()
