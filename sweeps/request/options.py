"""Every key that a user can set, as dataclasses: the types and the defaults that `conf/` builds on.

They are mutable, as Hydra wants them; `schema.read` makes a frozen `Trial` of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from enum import Enum
from typing import Any, Literal, Optional, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from sweeps.clusters.kinds import KINDS
from sweeps.tasks.options import TASK_CONFS
from sweeps.typed.keys import SETTINGS, Keys
from tracking.record import DEFAULT_PASSES, PASSES, Trial
from tracking.schema.protocols import PROTOCOLS

# OmegaConf knows enumerations, not Literal types.
PassName = Enum("PassName", {name: name for name in PASSES})  # type: ignore[misc]
DeviceKind = Enum("DeviceKind", {"cpu": "cpu", "gpu": "gpu"})
Order = Enum("Order", {"grid": "grid", "interleaved": "interleaved"})
Rerun = Enum("Rerun", {"failed": "failed"})


@dataclass
class DeviceConf:
    """The keys of `device`; `conf/device/` explains them."""

    name: str = "cpu"
    kind: DeviceKind = DeviceKind.cpu
    cpus: Optional[int] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    gpus: int = 0
    threads: Optional[int] = None  # noqa: UP045
    resources: dict[str, float] = field(default_factory=dict)
    memory_mb: Optional[int] = None  # noqa: UP045
    gpu_memory_mb: Optional[int] = None  # noqa: UP045
    accelerator: Optional[str] = None  # noqa: UP045
    node_labels: dict[str, str] = field(default_factory=dict)
    exclusive_node: bool = False


@dataclass
class TrackingConf:
    """The keys of `tracking`."""

    sinks: list[str] = field(default_factory=list)
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "sweeps"


@dataclass
class _Config:
    """Every key a user can set; `conf/config.yaml` gives the defaults and says what each one means."""

    model: dict[str, Any] = field(default_factory=dict)
    batch: int = 32
    device: DeviceConf = field(default_factory=DeviceConf)
    inputs: dict[str, Any] = field(default_factory=dict)
    passes: list[PassName] = field(default_factory=lambda: [PassName[name] for name in DEFAULT_PASSES])
    optimizer: dict[str, Any] = field(default_factory=dict)
    loss: Optional[str] = None  # noqa: UP045
    protocol: Any = MISSING
    task: Any = MISSING
    cluster: Any = MISSING
    tracking: TrackingConf = field(default_factory=TrackingConf)
    repeats: int = 1
    seed: int = 0
    timeout_s: Optional[float] = None  # noqa: UP045
    resume: Optional[str] = None  # noqa: UP045
    rerun: Optional[Rerun] = None  # noqa: UP045
    trust: Optional[bool] = None  # noqa: UP045
    order: Optional[Order] = None  # noqa: UP045
    objective: Optional[str] = None  # noqa: UP045
    dry_run: bool = False
    profile: bool = False


_IN_GROUPS = ("model_args", "target", "path", "weights", "task_args", "repeat")
"""Axes that other keys set: `model`, `task`, `repeats`."""


def _completed(config: type[Any], record: type[Any]) -> type[Any]:
    """Return the config with a key for each setting, and for each axis of the record that it does not have."""
    types, known = get_type_hints(record), {*_IN_GROUPS, *(each.name for each in fields(config))}
    added = [
        (each.name, *_option(each.name, types[each.name], each.default))
        for each in fields(record)
        if "axis" in each.metadata and each.name not in known
    ]
    kinds = get_type_hints(Keys)
    added += [(key, kinds[key], setting.default) for key, setting in SETTINGS.items()]
    return make_dataclass("Config", added, bases=(config,))


def _option(name: str, kind: Any, default: Any) -> tuple[Any, Any]:
    """Return the type and the default of an axis as OmegaConf takes them: an enumeration for a choice of words."""
    if get_origin(kind) is not Literal:
        return kind, default
    choices = Enum(name, {word: word for word in get_args(kind)})  # type: ignore[misc]
    return choices, choices[default]


Config: Any = _completed(_Config, Trial)


def register() -> None:
    """Make the schemas known to Hydra, under names that the files in `conf/` extend."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, protocol in PROTOCOLS.items():
        store.store(name=f"schema_{name}", node=_mutable(protocol))
    for name, node in TASK_CONFS.items():
        store.store(name=f"schema_{name}", node=node)
    for name, node in KINDS.items():
        store.store(name=f"schema_{name}", node=node)


def _mutable(record: type[Any]) -> type[Any]:
    """Return a dataclass with the fields of a frozen one, which Hydra does not take as a schema."""
    types = get_type_hints(record)
    columns = [(each.name, str if each.name == "name" else types[each.name], each.default) for each in fields(record)]
    return make_dataclass(record.__name__, columns)
