"""The keys that each task adds to the user's interface; `conf/task/` documents them and gives the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

Channels = Enum("Channels", {"rgb": "rgb", "bgr": "bgr"})
Fit = Enum("Fit", {"stretch": "stretch", "crop": "crop"})
Unreadable = Enum("Unreadable", {"refuse": "refuse", "skip": "skip"})
Schedule = Enum("Schedule", {"constant": "constant", "cosine": "cosine", "step": "step"})
Optimizer = Enum("Optimizer", {"sgd": "sgd", "adam": "adam", "adamw": "adamw", "rmsprop": "rmsprop"})
Cache = Enum("Cache", {"memory": "memory", "disk": "disk", "off": "off"})


@dataclass
class BenchmarkConf:
    name: str = "benchmark"


@dataclass
class _PicturesConf:
    channels: Optional[Channels] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    mean: Optional[list[float]] = None  # noqa: UP045
    scale: Optional[float] = None  # noqa: UP045
    fit: Fit = Fit.stretch


@dataclass
class ClassifyConf(_PicturesConf):
    name: str = "classify"
    images: Any = None
    labels: Optional[str] = None  # noqa: UP045
    top: int = 5


@dataclass
class FinetuneConf(_PicturesConf):
    name: str = "finetune"
    data: Optional[str] = None  # noqa: UP045
    labels: Optional[str] = None  # noqa: UP045
    validation: float = 0.2
    unreadable: Unreadable = Unreadable.refuse
    skip_layers: list[str] = field(default_factory=list)
    train_layers: Optional[list[str]] = None  # noqa: UP045
    epochs: int = 10
    learning_rate: float = 0.01
    schedule: Schedule = Schedule.constant
    decay: float = 0.1
    decay_epochs: int = 10
    optimizer: Optimizer = Optimizer.sgd
    momentum: float = 0.9
    weight_decay: float = 0.0
    patience: Optional[int] = None  # noqa: UP045
    flip: bool = True
    crop_margin: int = 0
    cache: Cache = Cache.memory
    save_model: bool = True


TASK_CONFS = {"benchmark": BenchmarkConf, "classify": ClassifyConf, "finetune": FinetuneConf}
