"""The kinds of batch job, one per module: `cluster=NAME` is the subclass of `BatchJob` in the module NAME."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from sweeps.jobs.job import BatchJob


def _kind(module: str) -> type[BatchJob]:
    """Return the subclass of `BatchJob` that a module of this folder defines."""
    name = f"{__name__}.{module}"
    kinds = [kind for kind in vars(importlib.import_module(name)).values() if isinstance(kind, type)]
    [kind] = [kind for kind in kinds if issubclass(kind, BatchJob) and kind.__module__ == name]
    return kind


BATCH_KINDS: Mapping[str, type[BatchJob]] = {
    module.name: _kind(module.name) for module in pkgutil.iter_modules(__path__)
}
"""The kinds by the names that `cluster=` takes."""
