"""Reports what a trial gets, without a net and without touching a device: a test of a cluster before the real sweep.

As it costs only what the system itself costs, it measures that, too.
"""

from __future__ import annotations

import os

from sweeps.machine import host
from sweeps.worker.messages import Host, Metrics, Send
from tracking.record import Trial


def run(trial: Trial, send: Send) -> None:
    """Send the facts of the host, the GPUs that this process is shown, and its node's free memory."""
    facts = host.facts()
    if trial.device.kind == "gpu":
        facts["cuda_visible_devices"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    send(Host(facts))
    free_mb = host.free_memory() / 2**20
    send(Metrics({"memory/free_mb": free_mb}))
    print(f"{facts['hostname']}: cores {facts['cores']}, {free_mb:.0f} MB free")
