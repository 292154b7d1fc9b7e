"""What the user says about a model's inputs, where its signature leaves sizes, types or ranges open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nets.errors import InputError, did_you_mean

ONLY = "input"
"""A model's only input may be called this in the config, besides its own name."""
TARGET = "_target_"
"""The key of a callable that makes the batch; all others are its arguments then."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the user says about one input; None where nothing."""

    shape: tuple[int, ...] | None = None
    """Sizes without the batch, channels last."""
    dtype: str | None = None
    low: int | None = None
    """The lowest whole number to feed."""
    high: int | None = None
    """One more than the highest."""


KEYS = tuple(each.name for each in fields(Setting))


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user says about all inputs."""

    by_name: Mapping[str, Setting] = field(default_factory=dict)
    only: Setting = Setting()
    """For a model with one input."""
    length: int | None = None
    """The size of every open time axis."""
    batch: Any = None
    """The inputs of a batch that the user made, as `Input`s in its structure; None without one."""
    batch_size: int = 1
    """The size at which a subclassed model is called for the first time."""

    def settings(self, names: Sequence[str]) -> list[Setting]:
        """Return what is said about each of a model's inputs. Raises InputError for a name that it does not have."""
        single = len(names) == 1
        settings = dict.fromkeys(names, Setting())
        if self.only != Setting():
            if not single:
                key = next(key for key in KEYS if getattr(self.only, key) is not None)
                raise InputError(
                    f"inputs.{key}: expected a model with one input. Received: one with {len(names)}, "
                    f"{', '.join(names)}; set +inputs.{names[0]}.{key}=VALUE for each"
                )
            settings[names[0]] = self.only
        for name, setting in self.by_name.items():
            actual = names[0] if name == ONLY and single else name
            if actual not in settings:
                raise InputError(
                    f"inputs.{name}: the model has no input {name!r}.{did_you_mean(name, names)} Its inputs: "
                    f"{', '.join(names)}"
                )
            stated = {key: value for key in KEYS if (value := getattr(setting, key)) is not None}
            settings[actual] = replace(settings[actual], **stated)
        return list(settings.values())


def read(values: Mapping[str, Any]) -> Given:
    """Return what a trial's `inputs` say: of the only input, of each input by name, and of every time axis."""
    if TARGET in values:
        return Given()
    named = {name: _setting(value) for name, value in values.items() if isinstance(value, Mapping)}
    length = values.get("length")
    return Given(
        by_name=named,
        only=_setting({key: value for key, value in values.items() if key in KEYS and key not in named}),
        length=length if isinstance(length, int) else None,
    )


def _setting(values: Mapping[str, Any]) -> Setting:
    shape = values.get("shape")
    return Setting(**{**values, "shape": None if shape is None else tuple(shape)})
