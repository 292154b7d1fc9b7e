"""A sweep's plan (`Trial`, `Sweep`) and its outcome (`Result`).

Every record is frozen, holds plain values only and goes to JSON and back without loss. Raw samples are kept; statistics
are derived from them on demand and written beside them for readers that do not have this code. The annotations are
the schema that `tracking.schema.reading` checks JSON against. Standard library only: the driver, the Ray worker and the
trial process all import this module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, get_args

from tracking.schema import axis_words
from tracking.schema.axis import axis
from tracking.schema.device import Device
from tracking.schema.fields import (
    Count,
    Figure,
    Id,
    Moment,
    Operations,
    Seconds,
    host_problem,
)
from tracking.schema.flat import pairs
from tracking.schema.measurement import Measurement
from tracking.schema.protocols import Adaptive, Protocol
from tracking.schema.reading import Also, FormatError, Matching, Within, read, shown

FORMAT = 1
"""Version of the JSON form. Readers refuse a higher one, so that an old checkout never misreads a new journal."""

Status = Literal["ok", "oom", "timeout", "error", "crashed", "infeasible", "not_run"]
STATUSES: tuple[Status, ...] = get_args(Status)
Pass = Literal["forward", "forward_backward", "train_step"]
PASSES: tuple[Pass, ...] = get_args(Pass)
DEFAULT_PASSES: tuple[Pass, ...] = ("forward", "forward_backward")
Precision = Literal["float32", "bfloat16", "float16", "tf32"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Compile = Literal["graph", "xla", "eager"]
COMPILES: tuple[Compile, ...] = get_args(Compile)
Layout = Literal["channels_last", "channels_first"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a sweep's grid: everything that affects the number, and `timeout_s` and `profile`, which do not.

    Each field that does is an axis of the grid; its row says how names, curves, tables and comparisons treat it.
    """

    model: str = field(metadata=axis(column="text"))
    batch: Annotated[int, Within(1, 2**53)] = field(
        metadata=axis(role="position", prefix="b=", column="integer", of_memory=False, neutral=1)
    )
    device: Device = field(
        default_factory=Device,
        metadata=axis(
            role="variant",
            label=lambda trial: trial.device.label,
            words=axis_words.device_words,
            column="text",
            of_peak=True,
        ),
    )
    precision: Precision = field(default="float32", metadata=axis(role="variant", column="text", of_peak=True))
    compile: Compile = field(default="graph", metadata=axis(role="variant", column="text"))
    layout: Layout = field(
        default="channels_last", metadata=axis(role="variant", words=axis_words.layout_words, column="text")
    )
    """Order of the axes of images and inside the net; kernels have the same shapes in either."""
    protocol: Protocol = field(
        default_factory=Adaptive,
        metadata=axis(
            label=lambda trial: trial.protocol.name,
            words=axis_words.protocol_words,
            column="text",
            timed=True,
            of_memory=False,
        ),
    )
    model_args: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=axis(words=lambda trial: {"model_args": pairs(trial.model_args)}, of_model=True),
    )
    inputs: Mapping[str, Any] = field(default_factory=dict, metadata=axis(words=axis_words.inputs_words, of_model=True))
    """What the model's signature leaves open, as the user set it: `shape`, `dtype`, `low` and `high` of its only input,
    or of an input by its name; `length` of every open time axis; or `_target_`, a callable that makes the batch."""
    target: str | None = field(default=None, metadata=axis(of_model=True))
    """Dotted name of the callable that builds the model; None: `nets.build(model, **model_args)`, unless `path`."""
    path: str | None = field(default=None, metadata=axis(words=axis_words.path_words, of_model=True))
    """A saved model: `.keras`, `.h5` or a SavedModel folder."""
    weights: str | None = field(default=None, metadata=axis(words=axis_words.weights_words, of_model=True))
    task: str = field(default="benchmark", metadata=axis())
    task_args: Mapping[str, Any] = field(default_factory=dict, metadata=axis(words=axis_words.task_args_words))
    passes: tuple[Pass, ...] = field(
        default=DEFAULT_PASSES,
        metadata=axis(
            label=lambda trial: ",".join(trial.passes),
            words=lambda trial: {"passes": "+".join(trial.passes)},
            timed=True,
            of_memory=False,
        ),
    )
    optimizer: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=axis(
            role="variant",
            label=axis_words.optimizer_label,
            words=axis_words.optimizer_words,
            column="text",
            concerns=("train_step",),
        ),
    )
    """`name`, a choice in `conf/optimizer/`, and its arguments; empty: the model's own if it is compiled, else SGD."""
    loss: str | None = field(default=None, metadata=axis(concerns=("train_step",)))
    """A name in `keras.losses` or a dotted name; None: the model's own if it is compiled, else one that fits."""
    seed: int = field(default=0, metadata=axis(prefix="seed=", of_memory=False))
    repeat: Annotated[int, Within(0, 2**53)] = field(
        default=0, metadata=axis(role="repetition", prefix="r=", column="integer", of_memory=False)
    )
    timeout_s: Seconds | None = None
    profile: bool = False
    """After all timing, one more step of each pass runs under TensorFlow's profiler."""
    as_typed: Mapping[str, Any] = field(default_factory=dict)
    """By key (`model.weights`, `task.data`, ...), paths as typed where that differs: relative, or with `~`."""

    CAME_LATER: ClassVar[Mapping[str, Any]] = {
        "layout": "channels_last",
        "inputs": {},
        "path": None,
        "optimizer": {},
        "loss": None,
        "profile": False,
        "as_typed": {},
    }
    """As in `Device`."""

    @cached_property
    def trial_id(self) -> str:
        """Hash of what affects the number: 12 hexadecimal digits, the same on every machine."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that affects the number, as plain JSON; paths are as typed, so that no folder is part of it."""
        identity = self.to_json()
        typed = identity.pop("as_typed", {})
        del identity["timeout_s"], identity["profile"]
        for key, value in typed.items():
            group, _, name = key.partition(".")
            part = identity if group == "model" else identity["task_args"]
            if name in part:
                part[name] = value
        for part, later in ((identity, self.CAME_LATER), (identity["device"], Device.CAME_LATER)):
            for key, default in later.items():
                if key in part and part[key] == default:
                    del part[key]
        return identity

    @property
    def callables(self) -> dict[str, str]:
        """Dotted names of the user's own code that the trial runs, by their keys in the config."""
        named = {"model._target_": self.target, "inputs._target_": self.inputs.get("_target_")}
        named["loss"] = self.loss if self.loss is not None and "." in self.loss else None
        return {key: str(name) for key, name in named.items() if name is not None}

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _plain(self)
        if not data["as_typed"]:
            del data["as_typed"]  # so that older versions can read it
        return data

    @classmethod
    def from_json(cls, data: Any) -> Trial:
        """Read a trial. Raises FormatError for anything else."""
        return read(cls, data)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A row of a net's layer table."""

    name: str
    kind: str
    output_shape: tuple[Count, ...]
    """Batch first."""
    trainable_params: Operations = 0
    other_params: Operations = 0
    flops: Operations = 0
    """Forward operations for the whole batch; a multiply and an add count as two."""
    activation_bytes: Operations = 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a trial has no result."""

    kind: str
    """Exception class or signal name, e.g. `ResourceExhaustedError`, `SIGSEGV`."""
    message: str
    detail: str = ""
    """Traceback or last lines of the trial's log."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one trial."""

    trial: Trial
    sweep_id: Id
    status: Status
    started_at: Moment = 0.0
    """Seconds since the epoch."""
    wall_s: Seconds = 0.0
    """From dispatch to result."""
    host: Annotated[Mapping[str, Any], Also(host_problem)] = field(default_factory=dict)
    """Facts about the machine, the cores and GPUs used, and the libraries' versions."""
    passes: Mapping[Pass, Measurement] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    metrics: Mapping[str, Figure] = field(default_factory=dict)
    """The task's figures, by MLflow key, e.g. `val/accuracy`."""
    curves: Mapping[str, tuple[tuple[int, Figure], ...]] = field(default_factory=dict)
    """Histories of the task's figures: (step, value) by MLflow key, e.g. `train/loss` over epochs."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the trial outside the passes: fork, setup, build."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Limits of this device at this precision, measured once per sweep: `peak_gflops_per_s`, `copy_gb_per_s`."""
    quality: tuple[str, ...] = ()
    """Reasons to doubt the figures; empty: the figures are good."""
    error: Failure | None = None

    CAME_LATER: ClassVar[tuple[str, ...]] = ("started_at", "wall_s", "host", "metrics", "curves", "phases", "limits")
    WRITTEN_BESIDE: ClassVar[frozenset[str]] = frozenset(("format", "trial_id"))

    @property
    def trial_id(self) -> str:
        return self.trial.trial_id

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def peak_rss_mb(self) -> float | None:
        return max((m.peak_rss_mb for m in self.passes.values() if m.peak_rss_mb is not None), default=None)

    @property
    def peak_device_mb(self) -> float | None:
        return max((m.peak_device_mb for m in self.passes.values() if m.peak_device_mb is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; each pass carries its derived figures beside its raw samples."""
        # Not `asdict`, which copies thousands of samples one by one, for milliseconds.
        data: dict[str, Any] = {"format": FORMAT, "trial_id": self.trial_id, **_shallow(self)}
        data["trial"] = self.trial.to_json()
        data["layers"] = [_shallow(layer) for layer in self.layers]
        data["error"] = self.error and asdict(self.error)
        data["passes"] = {
            name: _shallow(measurement) | measurement.figures(self.trial.batch)
            for name, measurement in self.passes.items()
        }
        return json.loads(json.dumps(data))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: Any) -> Result:
        """Read a result. Raises FormatError for anything else, and for a newer format."""
        _expect_format(data, "record")
        if "trial_id" in data:
            read(Id, data["trial_id"], "trial_id")
        return read(cls, data)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One sweep: its identity, its folder and its planned trials, as `plan.json` holds them."""

    sweep_id: Id
    folder: Annotated[str, Matching(r"[^\0]*", "a path")]
    """Absolute path of the sweep's own folder."""
    command: str
    """The command line that made it, ready to paste."""
    created_at: Moment
    trials: tuple[Trial, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The driver's machine, versions and git commit."""

    WRITTEN_BESIDE: ClassVar[frozenset[str]] = frozenset(("format",))

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **_shallow(self), "trials": [trial.to_json() for trial in self.trials]}

    @classmethod
    def from_json(cls, data: Any) -> Sweep:
        """Read a plan. Raises FormatError for anything else, and for a newer format."""
        _expect_format(data, "plan")
        return read(cls, data)  # type: ignore[no-any-return]


def _expect_format(data: Any, what: str) -> None:
    version = data.get("format", 0) if isinstance(data, dict) else 0
    if type(version) is not int:
        read(int, version, "format")
    if version > FORMAT:
        raise FormatError(f"expected a {what} of format {FORMAT} or older. Received: format={shown(version)}")
    if not isinstance(data, dict):
        read(Mapping[str, Any], data, what)


def _plain(value: Any) -> Any:
    """A value as it would come back from JSON; several times as fast as `asdict` and JSON text."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: _plain(item) for key, item in value.items()}
    return json.loads(json.dumps(value))


def _shallow(record: Result | Measurement | Layer | Sweep) -> dict[str, Any]:
    """A dataclass's fields by name, as they are."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
