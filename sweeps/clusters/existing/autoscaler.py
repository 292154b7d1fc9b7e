"""Nodes that a Ray cluster does not have yet: asking its autoscaler for them, and giving them back.

Ray keeps one request for the whole cluster, which each new one replaces, and neither forgets it with the driver that
made it. Which kinds of nodes an autoscaler may add is known to nobody else: what it cannot add does not come.
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
"""Of one request: what more trials would ask for comes with later ones."""
_STATUS_KEY = b"__autoscaling_status"
_WITHOUT_AUTOSCALER = "node_"
"""How the monitor of a head without an autoscaler names the kinds of its nodes: each by its id."""
_ACCELERATOR_SHARE = 0.001
"""What one task takes of a node's accelerator type, as Ray itself counts it."""


class Bundle(NamedTuple):
    """What one trial needs of a node, by Ray's names."""

    resources: dict[str, float]
    labels: dict[str, str]


class Need(NamedTuple):
    """How many trials want a device."""

    device: Device
    trials: int


def needs(trials: Iterable[Trial]) -> list[Need]:
    """What the trials need, each device once."""
    devices: dict[str, Device] = {}
    counts: Counter[str] = Counter()
    for trial in trials:
        key = repr(trial.device)
        devices[key] = trial.device
        counts[key] += 1
    return [Need(device, counts[key]) for key, device in devices.items()]


def bundles(wanted: Sequence[Need], nodes: Sequence[Node]) -> list[Bundle]:
    """What the autoscaler is asked for so that these trials can run, as many at a time as it lets them."""
    share = max(1, _MOST_BUNDLES // max(1, len(wanted)))
    return [
        bundle for need in wanted for bundle in itertools.repeat(_bundle(need.device, nodes), min(need.trials, share))
    ]


def _bundle(device: Device, nodes: Sequence[Node]) -> Bundle:
    """What a trial on `device` takes; all cores are those of the largest node there is that fits it."""
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
    """The devices that no node can give."""
    return [need.device for need in wanted if all(node.misses(need.device) for node in nodes)]


class Wishes:
    """What a sweep has asked the autoscaler for. Nothing is asked of a cluster that was never asked for anything."""

    def __init__(self, request: Callable[[Sequence[Bundle]], bool]) -> None:
        """`request` replaces what the autoscaler is asked for, and says whether that may come."""
        self._request = request
        self._bundles: list[Bundle] = []
        self._asks = False

    def replace(self, wanted: list[Bundle]) -> bool:
        """Ask for this instead; whether it may come. Raises HeadError."""
        self._bundles, self._asks = wanted, True
        return answer(lambda: self._request(wanted))

    def repeat(self) -> bool:
        """Ask for the same again, as another program may have asked for something else. Raises HeadError."""
        return self._asks and self.replace(self._bundles)

    def adjust(self, trials: Iterable[Trial], nodes: Sequence[Node]) -> None:
        """Ask for what these trials need, where that is not what was asked for last."""
        if self._asks and (wanted := bundles(needs(trials), nodes)) != self._bundles:
            with contextlib.suppress(HeadError):  # the fleet's next look finds out
                self.replace(wanted)

    def withdraw(self) -> None:
        """Ask for nothing any more."""
        if self._asks:
            with contextlib.suppress(HeadError):
                self.replace([])
            self._asks = False


def present(client: Any, answer_s: float) -> bool:
    """Whether the cluster of this client of its head has an autoscaler, which may add nodes."""
    import json

    from ray.autoscaler.v2.utils import is_autoscaler_v2

    if is_autoscaler_v2(fetch_from_server=True, gcs_client=client):
        return True
    status = client.internal_kv_get(_STATUS_KEY, None, answer_s)
    report = json.loads(status).get("autoscaler_report", {}) if status else {}
    return any(not kind.startswith(_WITHOUT_AUTOSCALER) for kind in report.get("active_nodes", {}))


def request(wanted: Sequence[Bundle]) -> None:
    """Replace what the cluster's autoscaler is asked for; nothing lets it remove nodes again that are idle."""
    from ray.autoscaler.sdk import request_resources

    request_resources(
        bundles=[bundle.resources for bundle in wanted], bundle_label_selectors=[bundle.labels for bundle in wanted]
    )


def impossible(client: Any, answer_s: float) -> bool:
    """Whether the autoscaler says that it can never add what it was asked for. The older kind does not say."""
    from ray.core.generated import autoscaler_pb2

    reply = autoscaler_pb2.GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=answer_s))
    return bool(reply.autoscaling_state.infeasible_cluster_resource_constraints)
