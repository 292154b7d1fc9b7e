"""Enumerate, plan, dispatch and record sweeps of benchmark trials.

from sweeps import sweep

done = sweep(model="vgg16", batch=[1, 2, 4, 8])
done.frame()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.errors import DispatchError, StoppedError, SweepError, UsageError
    from sweeps.library.api import SweepResult, read, sweep

__all__ = ["DispatchError", "StoppedError", "SweepError", "SweepResult", "UsageError", "read", "sweep"]

_IN_API = ("SweepResult", "read", "sweep")


def __getattr__(name: str) -> Any:
    """Import a name when it is used: whatever imports a module of this package imports this one first."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("sweeps.library.api" if name in _IN_API else "sweeps.errors"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
