"""Makes a net a classifier of pictures: from RGB bytes to the input that it expects, its outputs and their loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from nets import custom
from nets.counting import layers
from sweeps.tasks.training import net_output
from sweeps.tasks.training.net_input import BYTES, Scaling, late_scaling, own_scaling
from tracking.record import Trial

Form = tuple[str, tuple[float, float, float], float | tuple[float, float, float]]
"""Order of channels, mean per channel, and scale, per channel or one for all."""
BVLC: Form = ("bgr", (104.0, 117.0, 124.0), 1.0)
"""The input of Caffe's reference models: blue first, less the mean of ImageNet, 0 to 255."""
CENTRED: Form = ("rgb", (127.5, 127.5, 127.5), 1 / 127.5)
"""From -1 to 1."""
_CAFFE: Form = ("bgr", (103.939, 116.779, 123.68), 1.0)
_IMAGENET: Form = ("rgb", (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375))
_PUBLISHED: Mapping[str, Form] = {
    "VGG": _CAFFE,
    "ResNet50": _CAFFE,
    "ResNet101": _CAFFE,
    "ResNet152": _CAFFE,
    "DenseNet": _IMAGENET,
    "ConvNeXt": _IMAGENET,
    "EfficientNetV2B": _IMAGENET,
}
"""The input that keras.applications' weights expect, by the start of the model's name; all others: from -1 to 1."""
AUXILIARY_WEIGHT = 0.4
"""Share of an auxiliary head's loss (Inception V3 in TF-Slim)."""
_LUMINANCE = {"rgb": (0.299, 0.587, 0.114), "bgr": (0.114, 0.587, 0.299)}
"""Weights of the three channels in the grey of a net with one channel, as in Pillow."""


class NotAClassifierError(ValueError):
    """A net whose input is not a picture, or whose output is not a row of classes."""


@dataclass(frozen=True)
class Normalisation:
    """How a net's input is computed from a picture's bytes: `(channels - mean) * scale`."""

    channels: str
    mean: tuple[float, float, float]
    """In the order of `channels`."""
    scale: float | tuple[float, float, float]

    def __call__(self, images: Any) -> Any:
        """Return the net's input for RGB pictures `[batch, height, width, 3]`, as float32."""
        x = tf.cast(images, tf.float32)
        if self.channels == "bgr":
            x = tf.reverse(x, axis=[-1])
        return (x - tf.constant(self.mean, tf.float32)) * tf.constant(self.scale, tf.float32)

    def __str__(self) -> str:
        if not any(self.mean) and self.scale == 1:
            return f"{self.channels}, the plain values 0 to 255"
        mean = ", ".join(f"{value:g}" for value in self.mean)
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        scale = ", ".join(f"{value:.6g}" for value in scales)
        return f"{self.channels}, (value - [{mean}]) * {f'[{scale}]' if len(scales) > 1 else scale}"


def normalisation(trial: Trial, scaling: Scaling | None = None) -> Normalisation:
    """Return the normalisation that the trial's task sets.

    Whatever it leaves open follows the net's own `scaling`, if it has one, else the weights; where nothing is known
    about these, values are from -1 to 1.
    """
    channels, mean, scale = _of_weights(trial)
    if scaling is not None and scaling.expects is not None:
        mean, scale = (0.0, 0.0, 0.0), scaling.expects[1] / 255
    args = trial.task_args
    return Normalisation(
        channels=args["channels"] or channels,
        mean=mean if args["mean"] is None else tuple(args["mean"]),
        scale=scale if args["scale"] is None else args["scale"],
    )


def _of_weights(trial: Trial) -> Form:
    """Return channels, mean and scale for BVLC's `.npy` and for keras.applications' published files."""
    weights = trial.weights or ""
    if weights.endswith(".npy"):
        return BVLC
    if trial.target is None and weights.endswith(".h5") and not weights.endswith(".weights.h5"):
        beginnings = [name for name in _PUBLISHED if trial.model.startswith(name) and not trial.model.endswith("V2")]
        if beginnings:
            return _PUBLISHED[beginnings[0]]
    return CENTRED


def with_classes(trial: Trial, count: int) -> Trial:
    """Return the trial with `count` classes, if its net takes their number and none is set."""
    if trial.model_args.get("num_classes") is not None or trial.path is not None:
        return trial
    if trial.target is not None and not custom.takes(trial.target, "num_classes"):
        return trial
    return replace(trial, model_args={**trial.model_args, "num_classes": count})


def of_trial(net: keras.Model, trial: Trial) -> Classifier:
    """Return the trial's net, with its weights, as a classifier; its input and output are printed, as in `remarks`."""
    scaling = own_scaling(net)
    model = Classifier(net, normalisation(trial, scaling), scaling)
    for line in model.remarks():
        print(line)
    return model


def _is_scaled_twice(form: Normalisation, span: float) -> bool:
    """Whether a net that itself scales values from 0 to `span` gets others."""
    scale = form.scale[1] if isinstance(form.scale, tuple) else form.scale
    given, middle = 255 * scale, (127.5 - form.mean[1]) * scale
    return not 0.5 <= given / span <= 2 or abs(middle - span / 2) > 0.3 * span


class Classifier(keras.Model):
    """A net behind its normalisation: `[batch, height, width, 3]` RGB bytes -> its outputs `[batch, classes]`.

    The outputs are logits or probabilities, as `outputs_are` says. In training the net may also have auxiliary outputs,
    whose loss is weighted by `AUXILIARY_WEIGHT`.
    """

    def __init__(self, net: keras.Model, form: Normalisation, scaling: Scaling | None = None) -> None:
        """`net` must have its weights, as it is run to see what its outputs are; `scaling` is its own."""
        super().__init__(name=net.name)
        self.net, self.form, self.scaling = net, form, scaling
        self.size, self.classes = shape_of(net)
        self.grey = layers.input_shape(net)[2] == 1
        self.built = True
        self.outputs_are = net_output.kinds(self, (*self.size, 3), training=True)
        self.answers_are = net_output.kinds(self, (*self.size, 3), training=False)[0]

    def facts(self) -> dict[str, dict[str, str]]:
        """Return facts about the net's input and output, for the record."""
        scaled = (
            {} if self.scaling is None or self.scaling.expects is None else {"scaled_by_the_net": str(self.scaling)}
        )
        outputs = {"in_training": ", ".join(self.outputs_are), "in_inference": self.answers_are}
        return {"input": {"normalisation": str(self.form)} | scaled, "output": outputs}

    def remarks(self) -> list[str]:
        """Return lines about the net's input and output, with a warning where pictures are scaled twice."""
        lines = [f"input: {self.form}"]
        if self.scaling is not None and self.scaling.expects is not None:
            span = self.scaling.expects[1]
            does = "expects" if self.scaling.is_none else "itself scales"
            lines[0] += f"; the net {does} values from 0 to {span:g} ({self.scaling})"
            if _is_scaled_twice(self.form, span):
                twice = "twice, by task.mean and task.scale and by the net itself"
                how = "although the net expects others" if self.scaling.is_none else twice
                lines.append(
                    f"warning: pictures are scaled {how}; "
                    f"leave task.mean and task.scale out for values from 0 to {span:g}"
                )
        elif (
            self.scaling is not None and not self.scaling.is_linear and (self.form.mean, self.form.scale) == CENTRED[1:]
        ):
            lines.append(
                f"warning: the net's own preprocessing before {self.scaling.layer} is not a scaling, so that "
                "the values it expects are unknown; set task.mean and task.scale"
            )
        elif (late := late_scaling(self.net)) is not None and _is_scaled_twice(self.form, BYTES[1]):
            lines.append(
                f"warning: {late} scales values from 0 to 255, but behind a trained layer, and is given others; for "
                "plain values, set task.mean=[0,0,0] task.scale=1"
            )
        return [*lines, f"output: {net_output.IN_WORDS[self.answers_are]}"]

    def call(self, images: Any, training: bool = False) -> Any:
        x = self.form(images)
        if self.grey:
            x = tf.reduce_sum(x * tf.constant(_LUMINANCE[self.form.channels]), axis=-1, keepdims=True)
        return self.net(x, training=training)

    def probabilities(self, images: Any) -> Any:
        """Return probabilities `[batch, classes]` in float32, in inference mode."""
        return net_output.probabilities(net_output.in_order(self(images, training=False))[0], self.answers_are)

    def cross_entropy(self) -> keras.losses.Loss:
        """Return the loss of the first output in training, given the numbers of the true classes."""
        return net_output.loss(self.outputs_are[0])

    def compute_loss(  # `compile` takes one loss, for training and validation alike
        self,
        x: Any = None,  # noqa: ARG002
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return cross-entropy plus the net's own regularisation."""
        outputs = net_output.in_order(y_pred)
        kinds = self.outputs_are if training else (self.answers_are,)
        loss = net_output.loss(kinds[0])(y, outputs[0], sample_weight)
        for other, kind in zip(outputs[1:], kinds[1:], strict=False):  # in validation only the first one counts
            loss += AUXILIARY_WEIGHT * net_output.loss(kind)(y, other)
        return loss + sum(self.losses)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, y, net_output.in_order(y_pred)[0], sample_weight)


def shape_of(net: keras.Model) -> tuple[tuple[int, int], int]:
    """Return height and width of the net's pictures, and its number of classes. Raises NotAClassifierError."""
    try:
        shape = layers.input_shape(net)
    except ValueError as error:
        raise NotAClassifierError(f"expected {net.name} to take pictures. Received: {error}") from error
    output = net_output.in_order(net.compute_output_spec(keras.KerasTensor((None, *shape))))[0].shape
    if len(shape) != 3 or shape[2] not in (1, 3) or len(output) != 2:
        raise NotAClassifierError(
            f"expected {net.name} to take pictures [batch, height, width, 3] (or 1, grey) and give logits or "
            "probabilities [batch, classes]. "
            f"Received: [batch, {', '.join(map(str, shape))}] and {list(output)}"
        )
    if output[1] == 1:
        raise NotAClassifierError(
            f"expected {net.name} to have an output for each class. Received: one output; a net for two classes "
            "has to end in two outputs, e.g. Dense(2), and not in one sigmoid"
        )
    return (shape[0], shape[1]), output[1]
