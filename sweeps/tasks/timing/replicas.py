"""One trial on several GPUs: equal parts of the batch, the net on each GPU, gradients summed over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

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
