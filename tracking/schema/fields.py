"""What the fields of records may hold, beyond their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from tracking.schema.reading import AnyNumber, Matching, Within

Count = Annotated[int, Within(0, 2**63 - 1)]
Operations = Annotated[int, Within(0, 2**100)]
Seconds = Annotated[float, Within(0, 1e12)]
Step = Annotated[float, Within(1e-12, 1e12)]
"""What a step takes, seconds: so much that no rate made of it is infinite."""
Megabytes = Annotated[float, Within(0, 1e15)]
Figure = Annotated[float, AnyNumber()]
"""What a task has found: a loss that diverges is nan or infinite."""
Id = Annotated[str, Matching(r"(?!\.+$)[A-Za-z0-9._-]{1,200}", "letters, digits, '.', '_' and '-', at most 200")]
Moment = Annotated[float, Within(0, 1e11)]
"""Seconds since the epoch: so many that a calendar has a date for them."""

_COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "others_share": ("others_cores", "steal_share", "wall_s"),
    "quota_stops": ("quota_periods",),
    "mhz_before": ("mhz_after",),
    "gpu_sm_mhz_before": ("gpu_sm_mhz_min",),
}


def evidence_problem(evidence: Mapping[str, float]) -> str | None:
    """Evidence of which a part is missing: a verdict made of the rest would be wrong."""
    for key, companions in _COMPANIONS.items():
        if key in evidence and (missing := [name for name in companions if name not in evidence]):
            return f"{', '.join(missing)} beside {key}"
    for key in ("wall_s", "mhz_before"):
        if evidence.get(key, 1.0) <= 0:
            return f"{key} above 0"
    return None


def host_problem(host: Mapping[str, Any]) -> str | None:
    """Facts that are read, and not only shown, have to be of their kind."""
    in_force, cores = host.get("in_force", {}), host.get("cores", "")
    if not isinstance(in_force, Mapping) or not all(isinstance(each, Mapping) for each in in_force.values()):
        return "in_force to be an object of objects"
    if not isinstance(cores, str) and not (isinstance(cores, list) and all(type(core) is int for core in cores)):
        return "cores to be a list of numbers"
    texts = ("hostname", "node_id", "node_ip", "lost_before")
    return next((f"{key} to be text" for key in texts if not isinstance(host.get(key, ""), str)), None)
