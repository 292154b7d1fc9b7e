"""Nodes that a Ray cluster does not have yet: asking its autoscaler for them, and giving them back.

Ray keeps one request for the whole cluster, which each new one replaces, and neither forgets it with the driver that
made it. Which kinds of nodes an autoscaler may add is known to nobody else: what it cannot add does not come.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sweeps.devices import Node
from sweeps.ray_answers import HeadLostError, HeadReplacedError, answer
from tracking.record import Device, Trial

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


def bundles(trials: Iterable[Trial], nodes: Sequence[Node]) -> list[Bundle]:
    """What the autoscaler is asked for so that these trials can run, as many at a time as it lets them."""
    counts: Counter[str] = Counter()
    devices: dict[str, Device] = {}
    for trial in trials:
        key = repr(trial.device)
        counts[key] += 1
        devices[key] = trial.device
    found: list[Bundle] = []
    for key, device in devices.items():
        share = max(1, _MOST_BUNDLES // len(devices))
        found += [_bundle(device, nodes)] * min(counts[key], share)
    return found


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


def lacking(trials: Iterable[Trial], nodes: Sequence[Node]) -> list[Device]:
    """The devices of trials that no node can give."""
    devices = {repr(trial.device): trial.device for trial in trials}
    return [device for device in devices.values() if all(node.misses(device) for node in nodes)]


class Wishes:
    """What a sweep has asked the autoscaler for. Nothing is asked of a cluster that was never asked for anything."""

    def __init__(self, request: Callable[[Sequence[Bundle]], bool]) -> None:
        """`request` replaces what the autoscaler is asked for, and says whether that may come."""
        self._request = request
        self._bundles: list[Bundle] = []

    def replace(self, wanted: list[Bundle]) -> bool:
        """Ask for this instead; whether it may come. Raises what `answer` raises."""
        self._bundles = wanted
        return answer(lambda: self._request(wanted))

    def repeat(self) -> bool:
        """Ask for the same again, as another program may have asked for something else."""
        return bool(self._bundles) and self.replace(self._bundles)

    def reduce(self, trials: Iterable[Trial], nodes: Sequence[Node]) -> None:
        """Ask for no more than what these trials need, the last ones."""
        if self._bundles and len(wanted := bundles(trials, nodes)) < len(self._bundles):
            with contextlib.suppress(HeadLostError, HeadReplacedError):  # the fleet's next look finds out
                self.replace(wanted)

    def withdraw(self) -> None:
        """Ask for nothing any more."""
        if self._bundles:
            with contextlib.suppress(HeadLostError, HeadReplacedError):
                self.replace([])


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
