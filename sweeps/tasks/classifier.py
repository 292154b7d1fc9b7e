"""A net as a classifier of pictures: RGB bytes in, the input that its weights expect, logits out, and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from nets import layers
from tracking.record import Trial

BVLC = ("bgr", (104.0, 117.0, 124.0), 1.0)
"""What Caffe's reference models were trained on: blue first, the mean of ImageNet subtracted, 0 to 255."""
CENTRED = ("rgb", (127.5, 127.5, 127.5), 1 / 127.5)
"""From -1 to 1."""
AUXILIARY_WEIGHT = 0.4
"""Share of an auxiliary head's loss (Inception V3 in TF-Slim)."""


class NotAClassifierError(ValueError):
    """A net whose input is no picture or whose output is no row of logits."""


@dataclass(frozen=True)
class Normalisation:
    """What a net is given of a picture's bytes: `(channels - mean) * scale`."""

    channels: str
    mean: tuple[float, float, float]
    """In the order of `channels`."""
    scale: float


def normalisation(trial: Trial) -> Normalisation:
    """As the trial's task says; what it leaves open, as BVLC's weights expect it where the weights are a `.npy`."""
    channels, mean, scale = BVLC if (trial.weights or "").endswith(".npy") else CENTRED
    args = trial.task_args
    return Normalisation(
        channels=args["channels"] or channels,
        mean=mean if args["mean"] is None else tuple(args["mean"]),
        scale=scale if args["scale"] is None else args["scale"],
    )


class Classifier(keras.Model):
    """A net behind its normalisation: `[batch, height, width, 3]` RGB bytes -> logits `[batch, classes]`.

    In training it may give auxiliary logits too, whose loss counts `AUXILIARY_WEIGHT`.
    """

    def __init__(self, net: keras.Model, form: Normalisation) -> None:
        super().__init__(name=net.name)
        self.net, self.form = net, form
        self.size, self.classes = shape_of(net)
        self.built = True

    def call(self, images: Any, training: bool = False) -> Any:
        x = tf.cast(images, tf.float32)
        if self.form.channels == "bgr":
            x = tf.reverse(x, axis=[-1])
        return self.net((x - tf.constant(self.form.mean)) * self.form.scale, training=training)

    def probabilities(self, images: Any) -> Any:
        """`[batch, classes]` in float32, in inference mode."""
        return tf.nn.softmax(tf.cast(self(images, training=False), tf.float32))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Cross-entropy, and the net's own regularisation."""
        logits, *auxiliary = keras.tree.flatten(y_pred)
        loss = super().compute_loss(x, y, logits, sample_weight, training)
        for other in auxiliary:
            loss += AUXILIARY_WEIGHT * self.loss(y, other)
        return loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, y, keras.tree.flatten(y_pred)[0], sample_weight)


def shape_of(net: keras.Model) -> tuple[tuple[int, int], int]:
    """Height and width of the net's pictures, and its number of classes. Raises NotAClassifierError."""
    try:
        height, width, channels = layers.input_shape(net)
    except ValueError as error:
        raise NotAClassifierError(f"expected {net.name} to take pictures. Received: {error}") from error
    output = keras.tree.flatten(net.compute_output_spec(keras.KerasTensor((None, height, width, channels))))[0].shape
    if channels != 3 or len(output) != 2:
        raise NotAClassifierError(
            f"expected {net.name} to take pictures [batch, height, width, 3] and give logits [batch, classes]. "
            f"Received: [batch, {height}, {width}, {channels}] and {list(output)}"
        )
    return (height, width), output[1]
