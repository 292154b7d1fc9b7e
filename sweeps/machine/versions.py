"""Compares the versions on a cluster's nodes with the driver's, so that a sweep compares like with like."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Mapping

from sweeps.machine.host import version_of
from sweeps.wording import listed

Versions = Mapping[str, str | None]
_MUST_AGREE = ("tensorflow", "keras", "ray")
"""Packages whose version changes what is measured, or how processes communicate."""
_MAY_DIFFER = ("numpy",)
_MOST_NAMED = 3


def here() -> dict[str, str | None]:
    """Return the versions of Python and of each package in this process, None for one that is not installed."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in (*_MUST_AGREE, *_MAY_DIFFER)}}


def compare(driver: Versions, nodes: Mapping[str, Versions]) -> tuple[list[str], list[str]]:
    """Return version mismatches of the nodes, by name, with the driver, as errors and warnings."""
    mismatches: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for name, versions in nodes.items():
        for package, version in driver.items():
            if versions.get(package) != version:
                mismatches[package, versions.get(package)].append(name)
    errors: list[str] = []
    warnings: list[str] = []
    for (package, version), names in mismatches.items():
        where = listed(names, _MOST_NAMED)
        has = f"{where} has none" if version is None else f"{where} has {version}"
        sentence = f"{package}: the driver has {driver[package] or 'none'} and {has}"
        is_error = package in _MUST_AGREE or (package == "python" and _minor(version) != _minor(driver[package]))
        (errors if is_error else warnings).append(sentence)
    return errors, warnings


def _minor(version: str | None) -> list[str]:
    return (version or "").split(".")[:2]
