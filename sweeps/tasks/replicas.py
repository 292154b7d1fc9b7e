"""One trial over several GPUs: the batch in equal parts, the net on each of them, gradients summed over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

PassFunction = Callable[[tf.Tensor], Any]


def strategy(devices: Sequence[str]) -> tf.distribute.MirroredStrategy:
    """Synchronous data parallelism over these devices, e.g. `GPU:0`; NCCL sums where they are GPUs."""
    return tf.distribute.MirroredStrategy(list(devices))


def step_function(
    function: PassFunction, images: tf.Tensor, compiler: str, mirrored: tf.distribute.Strategy, *, gradients: bool
) -> Callable[[], Any]:
    """One step on one fixed global batch: each replica runs `function` on its part, which stays on its device.

    With `gradients`, what `function` returns is summed over the replicas, so that each has the gradient of the whole
    batch's loss. Batch normalisation takes its statistics from each part by itself. `compiler` is `graph`, or `xla`
    for everything but the sum.
    """
    parts = []
    with tf.device(images.device):  # TensorFlow would split it on the first GPU
        split = tf.split(images, mirrored.num_replicas_in_sync)
    for device, part in zip(mirrored.extended.worker_devices, split, strict=True):
        with tf.device(device):
            parts.append(tf.identity(part))  # here and now, not in every step
    share = mirrored.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )

    def replica(part: tf.Tensor) -> Any:
        # A compiled function of each replica's own: one for all would use the first one's variables everywhere.
        compiled = tf.function(function, jit_compile=True, autograph=False) if compiler == "xla" else function
        found = compiled(part)
        if not gradients:
            return found
        known = [gradient for gradient in found if gradient is not None]
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, known)

    return tf.function(lambda: mirrored.run(replica, args=(share,)), autograph=False)
