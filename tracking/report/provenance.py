"""How to reproduce a sweep: its command, its code, its machines and their versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tracking.names import host_name
from tracking.record import Result, Sweep
from tracking.schema.flat import flatten
from tracking.text.commits import commits
from tracking.text.units import utc_time

_MOST_HOSTS = 50


class Machine(NamedTuple):
    """Facts of a machine and its software, by dotted key."""

    title: str
    facts: Mapping[str, str]


class Provenance(NamedTuple):
    """Where and how a sweep was measured."""

    command: str
    begun: str
    """Which sweep, when, and at which commits."""
    folder: str
    """The name of the sweep's folder, without those above it."""
    machines: list[Machine]
    """The driver, then each host of trials; those without facts are left out."""


def provenance(sweep: Sweep, results: Sequence[Result]) -> Provenance:
    """The provenance of `results`: of each host, the facts of its first result."""
    hosts: dict[str, Mapping[str, Any]] = {}
    for result in results:
        if result.host:
            hosts.setdefault(host_name(result) or "a host", result.host)
    machines = {"the driver": sweep.facts}
    machines |= {f"trials on {name}": facts for name, facts in list(hosts.items())[:_MOST_HOSTS]}
    started = f"Sweep {sweep.sweep_id}, begun {utc_time(sweep.created_at)}"
    return Provenance(
        command=sweep.command,
        begun="; ".join([started, *commits(sweep.facts, digits=40)]),
        folder=Path(sweep.folder).name,
        machines=[Machine(title, flatten(facts)) for title, facts in machines.items() if facts],
    )
