"""Requests to a Ray cluster's autoscaler for nodes, and their withdrawal.

Ray keeps one request for the whole cluster, which each new one replaces and which outlives the driver that made it.
Only the autoscaler knows which kinds of nodes it may add: what it cannot add never comes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sweeps.clusters.existing.answers import HeadError, answer
from sweeps.machine.node import Node
from tracking.record import Trial
from tracking.schema.device import Device

_MOST_BUNDLES = 1000
"""The most bundles in one request; further trials are requested for later."""
_STATUS_KEY = b"__autoscaling_status"
_WITHOUT_AUTOSCALER = "node_"
"""Prefix of the node kinds that a head without an autoscaler reports: it names each by its id."""
_ACCELERATOR_SHARE = 0.001
"""The share of a node's accelerator type that Ray itself counts for one task."""


class Bundle(NamedTuple):
    """What one trial needs of a node, by Ray's names for resources and labels."""

    resources: dict[str, float]
    labels: dict[str, str]


class Need(NamedTuple):
    """How many trials need a device."""

    device: Device
    trials: int


def needs(trials: Iterable[Trial]) -> list[Need]:
    """Return what the trials need, each device once."""
    devices: dict[str, Device] = {}
    counts: Counter[str] = Counter()
    for trial in trials:
        key = repr(trial.device)
        devices[key] = trial.device
        counts[key] += 1
    return [Need(device, counts[key]) for key, device in devices.items()]


def bundles(wanted: Sequence[Need], nodes: Sequence[Node]) -> list[Bundle]:
    """Return the bundles to request so that as many of these trials as possible can run at a time."""
    share = max(1, _MOST_BUNDLES // max(1, len(wanted)))
    return [
        bundle for need in wanted for bundle in itertools.repeat(_bundle(need.device, nodes), min(need.trials, share))
    ]


def _bundle(device: Device, nodes: Sequence[Node]) -> Bundle:
    """Return what a trial on `device` takes; all cores are those of the largest present node that fits it."""
    fitting = [max(node.cpus, node.ray_cpus) for node in nodes if not node.misses(device)]
    whole = max(fitting, default=device.cpus or 1)
    cpus = whole if device.cpus is None or device.exclusive_node else device.cpus
    resources: dict[str, float] = {"CPU": cpus}
    if device.gpus:
        resources["GPU"] = device.gpus
    if device.accelerator:
        resources[f"accelerator_type:{device.accelerator}"] = _ACCELERATOR_SHARE
    return Bundle({**resources, **device.resources}, dict(device.node_labels))


def lacking(wanted: Sequence[Need], nodes: Sequence[Node]) -> list[Device]:
    """Return the devices that no node has."""
    return [need.device for need in wanted if all(node.misses(need.device) for node in nodes)]


class ScalingRequest:
    """A sweep's request to the autoscaler; a cluster that was never sent one is not sent changes of it either."""

    def __init__(self, request: Callable[[Sequence[Bundle]], bool]) -> None:
        """`request` replaces the autoscaler's request, and returns whether it may be fulfilled."""
        self._request = request
        self._bundles: list[Bundle] = []
        self._active = False

    def replace(self, wanted: list[Bundle]) -> bool:
        """Request this instead, and return whether it may be fulfilled. Raises HeadError."""
        self._bundles, self._active = wanted, True
        return answer(lambda: self._request(wanted))

    def repeat(self) -> bool:
        """Request the same again, as another program may have replaced it. Raises HeadError."""
        return self._active and self.replace(self._bundles)

    def adjust(self, trials: Iterable[Trial], nodes: Sequence[Node]) -> None:
        """Request what these trials need, if that differs from the last request."""
        if self._active and (wanted := bundles(needs(trials), nodes)) != self._bundles:
            with contextlib.suppress(HeadError):  # the fleet's next look finds out
                self.replace(wanted)

    def withdraw(self) -> None:
        """Withdraw the request."""
        if self._active:
            with contextlib.suppress(HeadError):
                self.replace([])
            self._active = False


def present(client: Any, answer_s: float) -> bool:
    """Return whether the cluster whose head `client` is connected to has an autoscaler, which may add nodes."""
    import json

    from ray.autoscaler.v2.utils import is_autoscaler_v2

    if is_autoscaler_v2(fetch_from_server=True, gcs_client=client):
        return True
    status = client.internal_kv_get(_STATUS_KEY, None, answer_s)
    report = json.loads(status).get("autoscaler_report", {}) if status else {}
    return any(not kind.startswith(_WITHOUT_AUTOSCALER) for kind in report.get("active_nodes", {}))


def request(wanted: Sequence[Bundle]) -> None:
    """Replace the request to the cluster's autoscaler; an empty one lets it remove idle nodes."""
    from ray.autoscaler.sdk import request_resources

    request_resources(
        bundles=[bundle.resources for bundle in wanted], bundle_label_selectors=[bundle.labels for bundle in wanted]
    )


def impossible(client: Any, answer_s: float) -> bool:
    """Return whether the autoscaler reports that it can never fulfil the request. The older kind does not report it."""
    from ray.core.generated import autoscaler_pb2

    reply = autoscaler_pb2.GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=answer_s))
    return bool(reply.autoscaling_state.infeasible_cluster_resource_constraints)
