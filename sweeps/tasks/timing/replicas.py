"""One trial on several GPUs: equal parts of the batch, the net on each GPU, gradients summed over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from sweeps.tasks.timing.updates import Deferred, Updates

PassFunction = Callable[[Any], Any]


def strategy(devices: Sequence[str]) -> tf.distribute.MirroredStrategy:
    """Return synchronous data parallelism over these devices, e.g. `GPU:0`; on GPUs, NCCL computes the sums."""
    return tf.distribute.MirroredStrategy(list(devices))


def shares(batch: Any, mirrored: tf.distribute.Strategy) -> Any:
    """Split the fixed global batch into equal parts, each on the device of its replica, in the batch's structure."""
    return tf.nest.map_structure(lambda tensor: _shares(tensor, mirrored), batch)


def pass_function(
    function: PassFunction, compiler: str, mirrored: tf.distribute.Strategy, *, gradients: bool
) -> PassFunction:
    """Return the function that runs `function` on each replica's part, compiled separately where `compiler` is `xla`.

    With `gradients`, the results are summed over the replicas, so that each has the gradient of the whole batch's loss;
    XLA compiles everything but the sum. Batch normalisation takes its statistics from each part separately.
    """

    def replica(part: Any) -> Any:
        # Each replica has its own compiled function: a shared one would use the first replica's variables everywhere.
        compiled = tf.function(function, jit_compile=True, autograph=False) if compiler == "xla" else function
        computed = compiled(part)
        if not gradients:
            return computed
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, computed)

    return lambda share: mirrored.run(replica, args=(share,))


def train_function(
    function: PassFunction, updates: Updates, compiler: str, mirrored: tf.distribute.Strategy
) -> PassFunction:
    """Return the function that takes a training step together: each replica on its part of the batch.

    Keras' optimizers sum the gradients over the replicas. They cannot do so within XLA, which compiles everything up to
    the gradients; then the update follows. Raises NotImplementedError for a step that updates several times: with the
    updates at its end, it would compute something else.
    """

    def replica(part: Any) -> Any:
        if compiler != "xla":
            return function(part)
        later: list[Deferred] = []

        def up_to_gradients(part: Any) -> Any:
            with updates.deferred() as made:
                logs = function(part)
            later.extend(made)
            return logs, [update.gradients for update in made]

        logs, gradients = tf.function(up_to_gradients, jit_compile=True, autograph=False)(part)
        if len(later) > 1:
            raise NotImplementedError("expected compile=graph for a train_step with several updates on several GPUs")
        for update, computed in zip(later, gradients, strict=True):
            update.apply(computed, update.variables)
        return logs

    return lambda share: mirrored.run(replica, args=(share,))


def _shares(tensor: tf.Tensor, mirrored: tf.distribute.Strategy) -> Any:
    parts = []
    with tf.device(tensor.device):  # otherwise TensorFlow splits it on the first GPU
        split = tf.split(tensor, mirrored.num_replicas_in_sync)
    for device, part in zip(mirrored.extended.worker_devices, split, strict=True):
        with tf.device(device):
            parts.append(tf.identity(part))  # here and now, not in every step
    return mirrored.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
