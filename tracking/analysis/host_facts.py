"""Facts in which the hosts of two sides differ, and which of them may differ.

Facts have the names that records give them, nested ones with dots (`env.XLA_FLAGS`).
"""

from __future__ import annotations

import difflib
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tracking.schema.flat import flatten

Host = Mapping[str, Any]

_IGNORED = {
    "hostname",
    "node_id",
    "node_ip",
    "lost_before",
    "memory_gb",
    "numpy",
    "ray",
    "mlflow",
    "hydra_core",
    "cuda_visible_devices",
    "gpu_uuid",
    "env.CUDA_VISIBLE_DEVICES",
    "env.NVIDIA_VISIBLE_DEVICES",
}
"""What may differ between hosts, or between a sweep's driver and its workers, without changing the time of a step."""
_DRIVER_FACTS = ("git", "tracking", "cluster", "user", "objective")
_CORES = "number of cores"
_ALIASES = {"kernel": "os", "cores": _CORES}
"""Other names for facts, as `--allow` takes them."""
_RARE = {"gpu", "gpu_driver", "cuda", "cpu_governor", "cpu_quota", "memory_limit_mb", "env", "in_force"}
"""Names that are valid although no host at hand may have them."""
_ABSENCE = {"cpu_quota": "none", "memory_limit_mb": "none"}
"""Facts that a host whose environment is recorded lacks only where there is no such limit, with a word for that."""


def unlike_facts(sides: Iterable[tuple[Sequence[Host], Sequence[Host]]]) -> dict[str, tuple[str, str]]:
    """Facts in which paired hosts differ: base and new value of each fact that both sides have.

    An environment variable or a limit that only one side has is unlike where both sides' records are of the kind that
    would have it (those with `env`). Other facts that a side lacks are unknown there, and count as alike.
    """
    unlike: dict[str, tuple[str, str]] = {}
    for base, new in sides:
        names = _recordable(base, new)
        old, recent = _facts(base, names), _facts(new, names)
        for key in old.keys() & recent.keys():
            if old[key] != recent[key]:
                unlike.setdefault(key, (" or ".join(sorted(old[key])), " or ".join(sorted(recent[key]))))
    return dict(sorted(unlike.items()))


def not_allowed(unlike: Iterable[str], allowed: Iterable[str]) -> list[str]:
    """The facts among `unlike` that no name in `allowed` covers; `env` covers every `env.NAME`."""
    covered = {_ALIASES.get(name, name) for name in allowed}
    return [key for key in unlike if not covered & {key, key.partition(".")[0]}]


def allow_option(facts: Iterable[str]) -> str:
    """The option of `compare.py` that lets these facts differ, ready to paste."""
    short = {fact: alias for alias, fact in _ALIASES.items() if " " in fact}
    return shlex.join(["--allow", ",".join(short.get(fact, fact) for fact in facts)])


def unknown_names(names: Iterable[str], hosts: Iterable[Host]) -> list[str]:
    """A message for each name that is no fact of any host, with the nearest one that is."""
    flat = {key for host in hosts for key in flatten(host)}
    valid = flat | {key.partition(".")[0] for key in flat} | _RARE | _ALIASES.keys() | {_CORES}
    return [
        f"--allow: expected names of facts about hosts. Received: {name!r}.{_nearest(name, valid)}"
        for name in names
        if name not in valid and not name.startswith("env.")
    ]


def _nearest(name: str, valid: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(valid), n=3, cutoff=0.5)
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return f" Known are {', '.join(sorted(key for key in valid if '.' not in key))}."


def _has_environment(host: Host) -> bool:
    return any(key.partition(".")[0] == "env" for key in host)


def _recordable(*sides: Sequence[Host]) -> dict[str, str]:
    """Facts that a host with an environment would have if they applied, by name, with the word for their absence."""
    variables = {key for side in sides for host in side for key in flatten(host) if key.startswith("env.")}
    return dict.fromkeys(variables, "unset") | _ABSENCE


def _facts(hosts: Iterable[Host], recordable: Mapping[str, str]) -> dict[str, set[str]]:
    """The values of each fact that matters; of the cores, their number, since it is chance which ones they are."""
    facts: dict[str, set[str]] = defaultdict(set)
    for host in hosts:
        absent = recordable if _has_environment(host) else {}
        for key, text in {**absent, **flatten(host)}.items():
            if key == "cores":
                facts[_CORES].add(str(text.count(",") + 1))
            elif key not in _IGNORED and not key.startswith(_DRIVER_FACTS):
                facts[key].add(text)
    return facts
