"""Ranges and rules for the fields of records, beyond their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from tracking.schema.reading import AnyNumber, Matching, Within

Count = Annotated[int, Within(0, 2**63 - 1)]
Operations = Annotated[int, Within(0, 2**100)]
Seconds = Annotated[float, Within(0, 1e12)]
Step = Annotated[float, Within(1e-12, 1e12)]
"""Seconds of one step, with a lower bound that keeps every rate finite."""
Megabytes = Annotated[float, Within(0, 1e15)]
Figure = Annotated[float, AnyNumber()]
"""A task's figure, which may be nan or infinite, as a loss that diverges."""
Id = Annotated[str, Matching(r"(?!\.+$)[A-Za-z0-9._-]{1,200}", "letters, digits, '.', '_' and '-', at most 200")]
Moment = Annotated[float, Within(0, 1e11)]
"""Seconds since the epoch, within what a calendar has dates for."""

_COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "others_share": ("others_cores", "steal_share", "wall_s"),
    "quota_stops": ("quota_periods",),
    "mhz_before": ("mhz_after",),
    "gpu_sm_mhz_before": ("gpu_sm_mhz_min",),
}


def evidence_problem(evidence: Mapping[str, float]) -> str | None:
    """The missing part of incomplete evidence, from which a verdict would be wrong; None if it is complete."""
    for key, companions in _COMPANIONS.items():
        if key in evidence and (missing := [name for name in companions if name not in evidence]):
            return f"{', '.join(missing)} beside {key}"
    for key in ("wall_s", "mhz_before"):
        if evidence.get(key, 1.0) <= 0:
            return f"{key} above 0"
    return None


def host_problem(host: Mapping[str, Any]) -> str | None:
    """The fact that is not of the type that this code reads; None if all are."""
    in_force, cores = host.get("in_force", {}), host.get("cores", "")
    if not isinstance(in_force, Mapping) or not all(isinstance(each, Mapping) for each in in_force.values()):
        return "in_force to be an object of objects"
    if not isinstance(cores, str) and not (isinstance(cores, list) and all(type(core) is int for core in cores)):
        return "cores to be a list of numbers"
    texts = ("hostname", "node_id", "node_ip", "lost_before")
    return next((f"{key} to be text" for key in texts if not isinstance(host.get(key, ""), str)), None)
