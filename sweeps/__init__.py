"""Enumerate, plan, dispatch and record sweeps of benchmark trials.

from sweeps import sweep

done = sweep(model="vgg16", batch=[1, 2, 4, 8])
done.frame()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api import SweepResult, read, sweep
    from sweeps.errors import DispatchError, StoppedError, SweepError, UsageError

__all__ = ["DispatchError", "StoppedError", "SweepError", "SweepResult", "UsageError", "read", "sweep"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: whatever imports a module of ours imports this one first."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweeps import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
