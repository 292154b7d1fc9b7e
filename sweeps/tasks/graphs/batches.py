"""The batch that a callable of the user's own makes: `inputs._target_=my_module.my_batch`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from nets import custom
from nets.errors import InputError
from nets.inputs import given, signature
from nets.inputs.given import TARGET, Given
from tracking.record import Trial


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch, channels last, in the structure that the model is called with."""

    tensors: Any
    targets: Any = None
    """In the structure that `fit` takes; None: the callable made inputs only."""


def of_trial(trial: Trial) -> Batch | None:
    """Call the trial's callable with `batch`, `seed` and the other keys of `inputs`; None where it has none.

    It returns inputs or, as `fit` takes them, a tuple of inputs and targets. Raises InputError for anything else;
    exceptions of the callable pass through. A batch for several GPUs is in the machine's memory.
    """
    if (target := trial.inputs.get(TARGET)) is None:
        return None
    args = {key: value for key, value in trial.inputs.items() if key != TARGET}
    function = custom.imported(target, batch=trial.batch, seed=trial.seed, **args)
    with tf.device("CPU:0") if trial.device.gpus > 1 else contextlib.nullcontext():
        made = function(batch=trial.batch, seed=trial.seed, **args)
        pair = made if isinstance(made, tuple) else (made, None)
        if len(pair) != 2:
            raise InputError(
                f"expected {target} to return inputs, or a tuple of inputs and targets. Received: a tuple of "
                f"{len(pair)}"
            )
        inputs, targets = (
            None if part is None else keras.tree.map_structure(lambda each: _tensor(each, trial.batch, target), part)
            for part in pair
        )
    if inputs is None:
        raise InputError(f"expected {target} to return a batch. Received: None")
    return Batch(inputs, targets)


def given_by(trial: Trial, batch: Batch | None = None) -> Given:
    """Return what the trial says about its model's inputs, with those of the user's own batch if there is one."""
    inputs = None if batch is None else signature.of_tensors(batch.tensors)
    return replace(given.read(trial.inputs), batch=inputs, batch_size=trial.batch)


def _tensor(value: Any, batch: int, target: str) -> tf.Tensor:
    """Return an array as a dense tensor; double precision becomes single, as Keras has it."""
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise InputError(f"expected {target} to return arrays or dense tensors. Received: a {kind}") from error
    if not tensor.shape.rank or tensor.shape[0] != batch:
        raise InputError(
            f"expected {target} to return {batch} samples along the first axis. Received: a tensor of shape "
            f"{list(tensor.shape)}"
        )
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 else tensor
