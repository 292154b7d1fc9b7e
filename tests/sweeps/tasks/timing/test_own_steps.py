"""What a `train_step` is that the model's own class decides about: its loss, its optimizer, its classes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers as kl

from nets.counting import layers, work
from sweeps.tasks.timing.in_force import NotInForceError
from sweeps.tasks.timing.inspection import Inspection
from sweeps.tasks.timing.train_step import Training, TrainingError
from tests.sweeps.tasks.timing.test_train_step import OPTIMIZERS, TRIAL, small, training
from tracking.record import Compile


class OwnLoss(keras.Model):  # type: ignore[misc]
    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:  # noqa: ARG002
        return keras.ops.mean(y_pred**2)


class WithoutOptimizer(keras.Model):  # type: ignore[misc]
    """Updates its weights itself, and returns nothing that a metric could be."""

    def train_step(self, data: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self(data[0], training=True) ** 2)
        for gradient, variable in zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True):
            variable.assign_sub(0.1 * gradient)
        return {"nothing": None, "one": 1.0} if tf.executing_eagerly() else None


class TwoOptimizers(keras.Model):  # type: ignore[misc]
    """Ignores the optimizer and the loss that it is compiled with."""

    other: Any = None

    def train_step(self, data: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self(data[0], training=True) ** 2)
        self.other.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"loss": loss}


def of_class(kind: Any) -> Any:
    x = keras.Input((4,))
    return kind(x, kl.Dense(2)(x))


def inspected(begun: Training, model: keras.Model, compiler: Compile) -> Inspection:
    step = begun.step()
    inspection = Inspection(step, compiler, work.training(layers.trace(model, 6, training=True)), binding=False)
    inspection.start()
    inspection.look(step())
    return inspection


def test_a_loss_of_the_models_own_is_not_called_by_another_name() -> None:
    begun = training(TRIAL, of_class(OwnLoss))
    begun.step()()
    assert begun.in_force()["loss"] == ["OwnLoss's own"]
    assert not begun.by_the_table
    begun = training(replace(TRIAL, loss="mse"), of_class(OwnLoss))
    begun.step()()
    with pytest.raises(NotInForceError, match=r"expected loss=mse to be computed.* OwnLoss's own compute_loss"):
        begun.in_force()


def test_another_optimizer_of_the_same_class_is_not_the_one_that_the_trial_names() -> None:
    model = of_class(TwoOptimizers)
    model.compile(optimizer="sgd", loss="mse")
    model.other = keras.optimizers.Adam()
    begun = training(replace(TRIAL, optimizer=OPTIMIZERS["adam"]), model)
    begun.step()()
    with pytest.raises(NotInForceError, match="Received: the model's own Adam"):
        begun.in_force()


@pytest.mark.parametrize("compiler", ["graph", "eager"])
def test_a_step_without_optimizer_and_metrics_is_inspected(compiler: Compile) -> None:
    model = of_class(WithoutOptimizer)
    model.compile(loss="mse")
    begun = training(replace(TRIAL, compile=compiler), model)
    assert inspected(begun, model, compiler).evidence["nonfinite_outputs"] == 0
    assert begun.in_force()["optimizer"] == []


@pytest.mark.parametrize("wrong", [-1, 5])
def test_classes_that_the_output_does_not_have_are_refused(wrong: int) -> None:
    images, targets = tf.zeros((6, 8, 8, 3)), tf.constant([0, 1, 2, 3, 4, wrong])
    with pytest.raises(TrainingError, match=f"expected classes from 0 to 4 in the targets.* Received: {wrong}"):
        training(replace(TRIAL, compile="xla"), small(), images, targets)
    model = small()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=wrong))
    training(TRIAL, model, images, targets)


def test_outputs_in_a_nested_structure_each_have_a_loss() -> None:
    x = keras.Input((4,))
    one, other = kl.Dense(3)(x), kl.Dense(1)(x)
    begun = training(TRIAL, keras.Model(x, {"z": one, "a": [other, one]}))
    assert [each.dtype for each in keras.tree.flatten(begun.data[1])] == [tf.float32, tf.int32, tf.int32]
    assert math.isfinite(float(begun.step()()["loss"]))
