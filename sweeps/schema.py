"""The types of the user's interface (`conf/`) and the way from a composed config to a `Trial`.

The dataclasses are mutable because Hydra needs them so; what leaves this module is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

import nets
from nets import custom
from sweeps import objective
from sweeps.cluster import batch
from sweeps.errors import UsageError
from sweeps.task_conf import TASK_CONFS
from sweeps.tasks import TASKS, checks
from tracking.record import COMPILES, LAYOUTS, PASSES, PRECISIONS, PROTOCOLS, Adaptive, Classic, Device, Trial

# OmegaConf knows enumerations, not Literal types.
PassName = Enum("PassName", {name: name for name in PASSES})  # type: ignore[misc]
PrecisionName = Enum("PrecisionName", {name: name for name in PRECISIONS})  # type: ignore[misc]
CompileName = Enum("CompileName", {name: name for name in COMPILES})  # type: ignore[misc]
LayoutName = Enum("LayoutName", {name: name for name in LAYOUTS})  # type: ignore[misc]
DeviceKind = Enum("DeviceKind", {"cpu": "cpu", "gpu": "gpu"})
Order = Enum("Order", {"grid": "grid", "interleaved": "interleaved"})
Rerun = Enum("Rerun", {"failed": "failed"})

_NOT_ARGUMENTS = ("name", "_target_", "weights")


@dataclass
class DeviceConf:
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
class ClassicConf:
    name: str = "classic"
    burn_in: int = Classic.burn_in
    steps: int = Classic.steps


@dataclass
class AdaptiveConf:
    name: str = "adaptive"
    target: float = Adaptive.target
    min_steps: int = Adaptive.min_steps
    max_steps: int = Adaptive.max_steps
    max_seconds: float = Adaptive.max_seconds
    max_warmup_seconds: float = Adaptive.max_warmup_seconds


@dataclass
class LocalConf:
    name: str = "local"
    cpus: Optional[int] = None  # noqa: UP045
    gpus: Optional[int] = None  # noqa: UP045


@dataclass
class InlineConf:
    name: str = "inline"


@dataclass
class RayConf:
    name: str = "ray"
    address: str = "auto"
    wait_s: float = 120.0
    driver_core: bool = True


@dataclass
class TrackingConf:
    sinks: list[str] = field(default_factory=list)
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "sweeps"


@dataclass
class Config:
    """Every key a user can set; `conf/config.yaml` gives the defaults and says what each one means."""

    model: dict[str, Any] = field(default_factory=dict)
    batch: int = 32
    device: DeviceConf = field(default_factory=DeviceConf)
    passes: list[PassName] = field(default_factory=lambda: list(PassName))
    precision: PrecisionName = PrecisionName["float32"]
    compile: CompileName = CompileName["graph"]
    layout: LayoutName = LayoutName["channels_last"]
    protocol: Any = MISSING
    task: Any = MISSING
    cluster: Any = MISSING
    tracking: TrackingConf = field(default_factory=TrackingConf)
    repeats: int = 1
    seed: int = 0
    timeout_s: Optional[float] = None  # noqa: UP045
    resume: Optional[str] = None  # noqa: UP045
    rerun: Optional[Rerun] = None  # noqa: UP045
    retries: int = 1
    oom_ceiling: bool = True
    fail_fast: Optional[int] = None  # noqa: UP045
    order: Optional[Order] = None  # noqa: UP045
    calibrate: bool = True
    objective: Optional[str] = None  # noqa: UP045
    dry_run: bool = False
    profile: bool = False


def register() -> None:
    """Make the schemas known to Hydra, under names that the files in `conf/` extend."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="schema_classic", node=ClassicConf)
    store.store(name="schema_adaptive", node=AdaptiveConf)
    for name, node in TASK_CONFS.items():
        store.store(name=f"schema_{name}", node=node)
    store.store(name="schema_local", node=LocalConf)
    store.store(name="schema_inline", node=InlineConf)
    store.store(name="schema_ray", node=RayConf)
    for name, kind in batch.KINDS.items():
        store.store(name=f"schema_{name}", node=kind.Options)


def to_trial(cfg: DictConfig) -> Trial:
    """The trial that a composed config asks for, `repeat` 0. Raises UsageError with every problem of the config."""
    trial, found = read(cfg)
    if found:
        raise UsageError(found)
    return trial


def read(cfg: DictConfig) -> tuple[Trial, list[str]]:
    """The trial that a config asks for, and what is wrong with it, a sentence each."""
    values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True, throw_on_missing=True)
    return _trial(values), _problems(values)


def _trial(values: dict[str, Any]) -> Trial:
    model, protocol, task = values["model"], dict(values["protocol"]), values["task"]
    timed = task["name"] == "benchmark"
    return Trial(
        model=_label(model),
        target=model["_target_"],
        weights=model["weights"],
        model_args=_arguments(model, task["name"]),
        batch=values["batch"],
        device=Device(**values["device"]),
        precision=values["precision"],
        compile=values["compile"],
        layout=values["layout"],
        passes=tuple(values["passes"]) if timed else (),
        protocol=PROTOCOLS[protocol["name"]](**protocol) if timed else Adaptive(),
        task=task["name"],
        task_args={key: value for key, value in task.items() if key != "name"},
        seed=values["seed"],
        timeout_s=values["timeout_s"],
        profile=values["profile"],
    )


def _problems(values: dict[str, Any]) -> list[str]:
    """What no type can hold: ranges, and names that only code knows."""
    found = []
    model, device, protocol = values["model"], values["device"], values["protocol"]

    def at_least(low: float, key: str, value: float | None) -> None:
        if value is not None and value < low:
            found.append(f"{key}={value}: expected at least {low}. Received: {value}.")

    def above(low: float, key: str, value: float | None) -> None:
        if value is not None and value <= low:
            found.append(f"{key}={value:g}: expected more than {low}. Received: {value:g}.")

    at_least(1, "batch", values["batch"])
    at_least(1, "repeats", values["repeats"])
    at_least(1, "device.cpus", device["cpus"])
    at_least(1, "device.threads", device["threads"])
    at_least(1 if device["kind"] == "gpu" else 0, "device.gpus", device["gpus"])
    at_least(1, "device.memory_mb", device["memory_mb"])
    at_least(1, "device.gpu_memory_mb", device["gpu_memory_mb"])
    above(0, "timeout_s", values["timeout_s"])
    at_least(0, "retries", values["retries"])
    at_least(1, "fail_fast", values["fail_fast"])
    if values["cluster"]["name"] == "ray":
        above(0, "cluster.wait_s", values["cluster"]["wait_s"])
    if values["rerun"] is not None and values["resume"] is None:
        found.append(f"rerun={values['rerun']}: expected resume=latest, a folder or a sweep id with it.")
    if protocol["name"] == "classic":
        at_least(0, "protocol.burn_in", protocol["burn_in"])
        at_least(1, "protocol.steps", protocol["steps"])
    else:
        at_least(1, "protocol.min_steps", protocol["min_steps"])
        at_least(protocol["min_steps"], "protocol.max_steps", protocol["max_steps"])
        above(0, "protocol.target", protocol["target"])
        above(0, "protocol.max_seconds", protocol["max_seconds"])
        at_least(0, "protocol.max_warmup_seconds", protocol["max_warmup_seconds"])
    if not values["passes"] or len(set(values["passes"])) < len(values["passes"]):
        found.append(f"passes: expected one or more of {', '.join(PASSES)}, each once. Received: {values['passes']}.")
    if device["kind"] == "cpu" and values["precision"] == "tf32":
        found.append("precision=tf32: expected an NVIDIA GPU for TF32. Received: device.kind=cpu.")
    task = values["task"]["name"]
    found += _impossible(values, task)
    if task not in TASKS:
        found.append(f"task={task}: expected one of {', '.join(TASKS)}.")
    found += checks.arguments(task, values["task"])
    found += objective.problems(values["objective"], values["passes"], task)
    found += batch.problems(values)
    if model["_target_"] is None:
        found += nets.check(model["name"], _arguments(model))
    else:
        found += custom.check(model["_target_"], _arguments(model))
    return found


def _impossible(values: dict[str, Any], task: str) -> list[str]:
    """Combinations that TensorFlow, or the task, does not have."""
    device, found = values["device"], []
    if values["layout"] == "channels_first":
        if task != "benchmark":
            found.append(f"layout=channels_first: expected task=benchmark with it. Received: task={task}.")
        if device["kind"] == "cpu" and values["precision"] == "float16" and values["compile"] != "xla":
            words = "expected compile=xla for float16 convolutions channels first on the CPU"
            found.append(f"layout=channels_first: {words}. Received: compile={values['compile']}.")
    if device["kind"] == "cpu":
        found += [
            f"device.{key}={device[key]}: expected device.kind=gpu with it. Received: device.kind=cpu."
            for key in ("gpus", "gpu_memory_mb")
            if device[key]
        ]
    elif (gpus := device["gpus"]) > 1:
        if task != "benchmark":
            found.append(f"device.gpus={gpus}: expected task=benchmark with several GPUs. Received: task={task}.")
        if values["compile"] == "eager":
            found.append(f"device.gpus={gpus}: expected compile=graph or xla with several GPUs. Received: eager.")
        if values["batch"] % gpus:
            words = f"expected a batch, which is that of all GPUs together, in {gpus} equal parts"
            found.append(f"device.gpus={gpus}: {words}. Received: batch={values['batch']}.")
    return found


def _label(model: dict[str, Any]) -> str:
    """What the trial's model is called: its name; a callable of the user's own by its own, unless it was given one."""
    name, target = model["name"], model["_target_"]
    return str(name if target is None or nets.check(name, {}) else target.rpartition(".")[2])


def _arguments(model: dict[str, Any], task: str = "") -> dict[str, Any]:
    """What the net is built with; a callable of the user's own gets what was added for it, not what ours have."""
    given = {key: value for key, value in model.items() if key not in _NOT_ARGUMENTS and value is not None}
    if model["_target_"] is None:
        if task == "finetune":
            given.pop("num_classes", None)  # the data says how many
        return given
    ours = {argument for name in nets.names() for argument in nets.arguments(name)}
    return {key: value for key, value in given.items() if key not in ours}
