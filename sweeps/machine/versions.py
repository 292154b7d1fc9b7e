"""Whether the nodes of a cluster have the versions that the driver has, so that a sweep compares like with like."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Mapping

from sweeps.machine.host import version_of
from sweeps.wording import listed

Versions = Mapping[str, str | None]
_MUST_AGREE = ("tensorflow", "keras", "ray")
"""Packages whose version changes what is measured, or what the processes understand of each other."""
_MAY_DIFFER = ("numpy",)
_MOST_NAMED = 3


def here() -> dict[str, str | None]:
    """The versions of this process: Python's, and each package's or None where it is not installed."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in (*_MUST_AGREE, *_MAY_DIFFER)}}


def compare(driver: Versions, nodes: Mapping[str, Versions]) -> tuple[list[str], list[str]]:
    """What the nodes, by name, have otherwise than the driver: sentences for what does harm, and for what does not."""
    apart: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for name, versions in nodes.items():
        for package, version in driver.items():
            if versions.get(package) != version:
                apart[package, versions.get(package)].append(name)
    errors: list[str] = []
    warnings: list[str] = []
    for (package, version), names in apart.items():
        where = listed(names, _MOST_NAMED)
        has = f"{where} has none" if version is None else f"{where} has {version}"
        sentence = f"{package}: the driver has {driver[package] or 'none'} and {has}"
        harms = package in _MUST_AGREE or (package == "python" and _minor(version) != _minor(driver[package]))
        (errors if harms else warnings).append(sentence)
    return errors, warnings


def _minor(version: str | None) -> list[str]:
    return (version or "").split(".")[:2]
