"""One trial over several GPUs: the batch in equal parts, the net on each of them, gradients summed over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

PassFunction = Callable[[Any], Any]


def strategy(devices: Sequence[str]) -> tf.distribute.MirroredStrategy:
    """Synchronous data parallelism over these devices, e.g. `GPU:0`; NCCL sums where they are GPUs."""
    return tf.distribute.MirroredStrategy(list(devices))


def shares(batch: Any, mirrored: tf.distribute.Strategy) -> Any:
    """The fixed global batch in equal parts, each on the device of its replica; in the batch's structure."""
    return tf.nest.map_structure(lambda tensor: _shares(tensor, mirrored), batch)


def pass_function(
    function: PassFunction, compiler: str, mirrored: tf.distribute.Strategy, *, gradients: bool
) -> PassFunction:
    """What every replica does with its part: `function`, compiled by itself where `compiler` is `xla`.

    With `gradients`, what `function` returns is summed over the replicas, so that each has the gradient of the whole
    batch's loss; XLA compiles all but the sum. Batch normalisation takes its statistics from each part by itself.
    """

    def replica(part: Any) -> Any:
        # A compiled function of each replica's own: one for all would use the first one's variables everywhere.
        compiled = tf.function(function, jit_compile=True, autograph=False) if compiler == "xla" else function
        computed = compiled(part)
        if not gradients:
            return computed
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, computed)

    return lambda share: mirrored.run(replica, args=(share,))


def _shares(tensor: tf.Tensor, mirrored: tf.distribute.Strategy) -> Any:
    parts = []
    with tf.device(tensor.device):  # TensorFlow would split it on the first GPU
        split = tf.split(tensor, mirrored.num_replicas_in_sync)
    for device, part in zip(mirrored.extended.worker_devices, split, strict=True):
        with tf.device(device):
            parts.append(tf.identity(part))  # here and now, not in every step
    return mirrored.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
