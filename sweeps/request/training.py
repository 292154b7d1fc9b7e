"""The keys `optimizer` and `loss` of the pass `train_step`: names, arguments, and where they make sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nets import keras_names
from sweeps.wording import needs


def problems(optimizer: Mapping[str, Any], loss: str | None, passes: Sequence[str], task: str) -> list[str]:
    """Return every problem of the two keys, as sentences; not whether a loss of the user's own exists."""
    given = [f"optimizer={optimizer.get('name', dict(optimizer))}"] if optimizer else []
    given += [] if loss is None else [f"loss={loss}"]
    refusals = []
    if task != "benchmark":
        refusals += [needs(each, "task=benchmark", f"task={task}") for each in given]
    elif "train_step" not in passes:
        refusals += [needs(each, "train_step among passes", f"passes=[{','.join(passes)}]") for each in given]
    if optimizer:
        refusals += keras_names.check_optimizer(optimizer)
    if loss is not None and not is_dotted(loss):
        refusals += keras_names.check_loss(loss)
    return refusals


def is_dotted(loss: str | None) -> bool:
    """Whether the loss is one of the user's own, as module.function."""
    return loss is not None and "." in loss
