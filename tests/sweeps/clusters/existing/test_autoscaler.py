"""Sweeps on Ray clusters with an autoscaler, and the requests to it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from sweeps.clusters.existing import autoscaler
from sweeps.machine.node import Node
from tests.support.ray_nodes import QUICK, Machines, journal
from tracking.record import Trial
from tracking.schema.device import Device

REQUEST = """
from ray._raylet import GcsClient
print(GcsClient("{cluster}").internal_kv_get(b"autoscaler_resource_request", None, 5).decode())
"""
"""Prints the current request to the autoscaler."""


UNUSED = (
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
"""Settings that the autoscaler requires, but needs only for real machines."""


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A cluster whose head has one core and whose autoscaler, Ray's for tests, may add two nodes of two cores."""
    folder = tmp_path_factory.mktemp("m")
    config = folder / "cluster.json"
    kinds = {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "large": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    }
    provider = {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_launch_config_check": True,
        "disable_node_updaters": True,
        "foreground_node_launch": True,
    }
    config.write_text(
        json.dumps(
            {
                "cluster_name": "scaled",
                "max_workers": 2,
                "idle_timeout_minutes": 10,
                "provider": provider,
                "available_node_types": kinds,
                "head_node_type": "ray.head.default",
                "upscaling_speed": 1.0,
                "auth": {},
                "file_mounts": {},
                "file_mounts_sync_continuously": False,
                **{key: [] for key in UNUSED},
            }
        )
    )
    with Machines(folder) as machines:
        machines.start(
            1,
            "--num-cpus=1",
            f"--autoscaling-config={config}",
            RAY_FAKE_CLUSTER="1",
            AUTOSCALER_UPDATE_INTERVAL_S="1",
        )
        machines.wait(1)
        yield machines


@pytest.mark.timeout(600)
def test_a_device_that_no_node_has_yet_is_requested_from_the_autoscaler(scaled: Machines) -> None:
    driver = scaled.sweep(
        *("-m", "model=tiny", "batch=1,2,3", "device.cpus=2", *QUICK),
        "hydra.sweep.dir=multirun/day/grown",
        f"cluster.address={scaled.cluster}",
    )
    output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, output
    assert "for the cluster's autoscaler to add nodes for cpu 2 cores" in output
    lines = journal(scaled.driver / "multirun" / "day" / "grown")
    assert sorted(line["trial"]["batch"] for line in lines) == [1, 2, 3]
    assert json.loads(scaled.python(REQUEST.format(cluster=scaled.cluster)).stdout) == []


@pytest.mark.timeout(600)
def test_a_device_that_the_autoscaler_never_adds_is_refused_and_its_request_withdrawn(scaled: Machines) -> None:
    driver = scaled.sweep(
        *("model=tiny", "device.cpus=64", "cluster.start_s=2", *QUICK), f"cluster.address={scaled.cluster}"
    )
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 2, output
    assert "device.cpus=64 asks for 64 cores" in output
    assert json.loads(scaled.python(REQUEST.format(cluster=scaled.cluster)).stdout) == []


@pytest.mark.timeout(600)
def test_a_dry_run_requests_nothing_and_reports_what_it_would_request(scaled: Machines) -> None:
    driver = scaled.sweep(*("model=tiny", "device.cpus=3", "dry_run=true", *QUICK), f"cluster.address={scaled.cluster}")
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    assert "no node has cpu 3 cores yet: the sweep would request one from the cluster's autoscaler" in output
    assert scaled.python(REQUEST.format(cluster=scaled.cluster), check=False).stdout.strip() in (b"", b"[]")


def test_the_request_is_what_trials_need_and_is_bounded() -> None:
    whole = Device(name="cpu", kind="cpu")
    gpu = Device(name="h100", kind="gpu", cpus=4, gpus=2, accelerator="H100", node_labels={"zone": "a"})
    trials = [Trial(model="tiny", batch=1, device=whole)]
    trials += [Trial(model="tiny", batch=batch, device=gpu) for batch in range(1, 2001)]
    wanted = autoscaler.bundles(autoscaler.needs(trials), [Node(cpus=8), Node(cpus=16, ray_cpus=20)])
    assert wanted[0] == ({"CPU": 20}, {})
    assert wanted[1] == ({"CPU": 4, "GPU": 2, "accelerator_type:H100": 0.001}, {"zone": "a"})
    assert len(wanted) <= 1000
