"""`train_step` is the step that Keras takes: the same weights after it, with the same optimizer, loss and scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from nets.counting import layers, work
from sweeps.tasks import setup
from sweeps.tasks.timing.gradients import NothingToDifferentiateError
from sweeps.tasks.timing.in_force import NotInForceError
from sweeps.tasks.timing.inspection import Inspection, NothingComputedError
from sweeps.tasks.timing.train_step import Training, TrainingError
from tests.support.models import trained
from tracking.record import Compile, Trial

TRIAL = Trial(model="small", batch=6, target="a.b", passes=("train_step",))
RESNET = Trial(model="resnet_v2_50", batch=3, model_args={"image_size": 64, "num_classes": 7}, passes=("train_step",))
OPTIMIZERS = {
    "sgd": {"name": "sgd", "learning_rate": 0.01},
    "momentum": {"name": "momentum", "learning_rate": 0.01, "momentum": 0.9},
    "adam": {"name": "adam", "learning_rate": 0.001},
}


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


def small() -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input((8, 8, 3))
    features = kl.BatchNormalization()(kl.Conv2D(4, 3, use_bias=False)(x))
    return keras.Model(x, kl.Dense(5)(kl.Flatten()(kl.ReLU()(features))))


def training(trial: Trial, model: keras.Model, inputs: Any = None, targets: Any = None) -> Training:
    traced = layers.trace(model, trial.batch, training=True)
    if inputs is None:
        inputs = keras.tree.map_structure(
            lambda each: keras.random.normal((trial.batch, *each.shape), stddev=0.1, seed=1), traced.inputs
        )
    return Training(trial, model, inputs, targets, traced)


def weights(model: keras.Model) -> list[Any]:
    return [np.array(each) for each in model.get_weights()]


def close(found: list[Any], expected: list[Any], before: list[Any], share: float) -> None:
    """Each array differs from the expected one by at most this share of its largest value; all were changed."""
    assert len(found) == len(expected) > 0
    for one, other, was in zip(found, expected, before, strict=True):
        assert np.abs(one - other).max() <= share * np.abs(other).max() + 1e-12
        assert np.any(other != was) or np.all(was == 0)


def after_one_step(trial: Trial, build: Any, steps: int = 1) -> tuple[list[Any], list[Any], list[Any]]:
    """Weights after our step, after Keras' own `train_on_batch` from the same ones, and before."""
    model = build()
    begun = training(trial, model)
    before = weights(model)
    step = begun.step()
    for _ in range(steps):
        metrics = step()
    reference = build()
    reference.set_weights(before)
    name = OPTIMIZERS[trial.optimizer["name"]]
    kind = {"sgd": keras.optimizers.SGD, "momentum": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
    optimizer = kind[name["name"]](**{key: value for key, value in name.items() if key != "name"})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    eager = trial.compile == "eager"
    reference.compile(optimizer=optimizer, loss=loss, jit_compile=False, run_eagerly=eager)
    x, y = (tensor.numpy() for tensor in begun.data)
    for _ in range(steps):
        logs = reference.train_on_batch(x, y, return_dict=True)
    if steps == 1:
        assert float(metrics["loss"]) == pytest.approx(float(logs["loss"]), rel=1e-5)
    assert all(isinstance(each, tf.Tensor) for each in tf.nest.flatten(metrics))
    return weights(model), weights(reference), before


@pytest.mark.parametrize("compiler", ["graph", "eager", "xla"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_weights_after_a_step_are_those_of_keras(optimizer: str, compiler: Compile) -> None:
    trial = replace(TRIAL, optimizer=OPTIMIZERS[optimizer], compile=compiler)
    close(*after_one_step(trial, small), share=1e-4 if compiler == "xla" else 1e-5)


def test_the_state_of_the_optimizer_goes_on_from_step_to_step() -> None:
    close(*after_one_step(replace(TRIAL, optimizer=OPTIMIZERS["adam"]), small, steps=3), share=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_residual_net_with_its_statistics_is_trained_as_keras_does(optimizer: str) -> None:
    trial = replace(RESNET, optimizer=OPTIMIZERS[optimizer])
    found, expected, before = after_one_step(trial, lambda: setup.build(trial))
    close(found, expected, before, share=1e-5)
    moving = [weight.path for weight in setup.build(trial).weights if "moving" in weight.path]
    assert len(moving) > 90


def test_by_default_the_loss_fits_and_the_optimizer_is_sgd() -> None:
    begun = training(TRIAL, small())
    begun.step()()
    facts = begun.in_force()
    assert facts["optimizer"] == {"class": "SGD", "learning_rate": 0.01}
    assert facts["loss"] == ["SparseCategoricalCrossentropy(from_logits=True)"]
    assert facts["train_step"] == "Keras'"
    assert begun.by_the_table
    (labels,) = (np.array(begun.data[1]),)
    assert labels.shape == (6,)
    assert len(set(labels)) > 1
    assert 0 <= labels.min() <= labels.max() < 5


def test_a_compiled_model_keeps_its_optimizer_loss_and_metrics() -> None:
    begun = training(replace(TRIAL, batch=8), trained.compiled())
    metrics = begun.step()()
    assert set(metrics) == {"loss", "mean_squared_error"}
    facts = begun.in_force()
    assert facts["optimizer"] == {"class": "Nadam", "learning_rate": 0.125}
    assert (facts["loss"], facts["loss_from"]) == (["mean_absolute_error"], "the model's own")
    assert facts["optimizer_from"] == "the model's own"


def test_an_optimizer_replaces_only_the_optimizer_of_a_compiled_model() -> None:
    begun = training(replace(TRIAL, optimizer={"name": "adam", "learning_rate": 0.5}), trained.compiled())
    assert set(begun.step()()) == {"loss", "mean_squared_error"}
    facts = begun.in_force()
    assert facts["optimizer"] == {"class": "Adam", "learning_rate": 0.5}
    assert facts["optimizer_from"] == "compiled here, in place of the model's own Nadam"
    assert facts["loss"] == ["mean_absolute_error"]


def test_a_loss_replaces_only_the_loss_of_a_compiled_model() -> None:
    begun = training(replace(TRIAL, loss="huber"), trained.compiled())
    begun.step()()
    facts = begun.in_force()
    assert facts["optimizer"] == {"class": "Nadam", "learning_rate": 0.125}
    assert (facts["loss"], facts["loss_from"]) == (["Huber"], "compiled here")


@pytest.mark.parametrize("compiler", ["graph", "eager", "xla"])
def test_a_train_step_of_the_models_own_is_called(compiler: Compile) -> None:
    model = trained.of_its_own()
    begun = training(replace(TRIAL, compile=compiler), model)
    step = begun.step()
    assert set(step()) == {"my_own"}
    assert int(model.mine.iterations) == 1
    facts = begun.in_force()
    assert facts["optimizer"]["class"] == "RMSprop"
    assert facts["train_step"] == "Own's own"
    assert not begun.by_the_table


def test_an_optimizer_that_a_train_step_ignores_is_not_in_force() -> None:
    begun = training(replace(TRIAL, optimizer={"name": "adam"}), trained.of_its_own())
    begun.step()()
    words = r"expected optimizer=adam to update the weights\. Received: the model's own RMSprop"
    with pytest.raises(NotInForceError, match=words):
        begun.in_force()


def test_an_optimizer_of_the_models_own_does_not_pass_for_another_of_its_class() -> None:
    begun = training(replace(TRIAL, optimizer={"name": "rmsprop", "learning_rate": 0.5}), trained.of_its_own())
    begun.step()()
    with pytest.raises(NotInForceError, match="expected optimizer=rmsprop to update the weights"):
        begun.in_force()


def test_outputs_in_a_structure_each_get_their_loss_and_targets() -> None:
    begun = training(TRIAL, trained.pair())
    assert "loss" in begun.step()()
    assert begun.in_force()["loss"] == ["BinaryCrossentropy", "SparseCategoricalCrossentropy"]
    kind, yes = (np.array(begun.data[1][name]) for name in ("kind", "yes"))
    assert (kind.shape, yes.shape) == ((6,), (6, 1))
    assert set(yes.flat) <= {0.0, 1.0}


def test_outputs_that_only_training_has_are_trained() -> None:
    trial = Trial(
        model="inception_v3", batch=2, model_args={"image_size": 75, "num_classes": 3}, passes=("train_step",)
    )
    model = setup.build(trial)
    begun = training(trial, model)
    assert len(begun.data[1]) == 2
    begun.step()()
    assert len([each for each in model.trainable_variables if each.path.startswith("Aux")]) > 0


def test_a_loss_of_the_users_own() -> None:
    begun = training(replace(TRIAL, loss="tests.support.models.trained.my_loss"), small())
    assert math.isfinite(begun.step()()["loss"])
    assert begun.in_force()["loss"] == ["my_loss"]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_float16_scales_its_loss_as_keras_does(precision: Any) -> None:
    trial = replace(RESNET, precision=precision, optimizer=OPTIMIZERS["adam"])
    keras.config.set_dtype_policy(setup.POLICIES[trial.precision])
    model = setup.build(trial)
    begun = training(trial, model)
    begun.step()()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "float16")
    assert begun.in_force()["optimizer"].get("loss_scaling", False) == (precision == "float16")


def test_steps_whose_update_overflowed_are_counted() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    begun = training(replace(TRIAL, precision="float16"), small())
    step = begun.step()
    begun._model.optimizer.dynamic_scale  # noqa: B018 - built before the first call
    begun._model.optimizer.dynamic_scale.assign(2.0**127)
    step()
    begun.updates.start()
    for _ in range(4):
        step()
    assert begun.updates.stop(4)["skipped_updates"] == 1.0
    begun._model.optimizer.dynamic_scale.assign(1.0)
    begun.updates.start()
    step()
    assert begun.updates.stop(1) == {"nonfinite_weights": 0.0, "nonfinite_loss": 0.0, "skipped_updates": 0.0}


def test_weights_that_became_nan_are_counted() -> None:
    begun = training(replace(TRIAL, optimizer={"name": "sgd", "learning_rate": math.inf}), small())
    step = begun.step()
    begun.updates.start()
    for _ in range(3):
        step()
    evidence = begun.updates.stop(3)
    assert evidence["nonfinite_weights"] >= 4
    assert evidence["nonfinite_loss"] == 1


@pytest.mark.parametrize("compiler", ["graph", "eager", "xla"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_graph_does_what_the_table_counts(optimizer: str, compiler: Compile) -> None:
    trial = replace(TRIAL, compile=compiler, optimizer=OPTIMIZERS[optimizer])
    model = small()
    begun = training(trial, model)
    step = begun.step()
    inspection = Inspection(step, compiler, work.training(layers.trace(model, trial.batch, training=True)))
    inspection.start()
    inspection.look(step())
    assert inspection.flops is not None
    assert inspection.evidence.get("work_share", 1.0) == 1.0
    assert inspection.evidence["nonfinite_outputs"] == 0


@pytest.mark.parametrize("compiler", ["graph", "eager", "xla"])
def test_a_model_without_anything_to_train_is_refused(compiler: Compile) -> None:
    model = small()
    model.trainable = False
    with pytest.raises(NothingToDifferentiateError, match="Received: no trainable variable; set passes="):
        training(replace(TRIAL, compile=compiler), model).step()()


def test_a_model_whose_outputs_no_variable_reaches_is_refused() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, kl.Lambda(tf.stop_gradient)(kl.Dense(3)(x)))
    with pytest.raises(NothingToDifferentiateError, match="no gradient for any of its 2 trainable variables"):
        training(TRIAL, model).step()()


def test_a_loss_that_cannot_do_with_its_targets_says_what_to_set() -> None:
    def picky(y_true: Any, y_pred: Any) -> Any:
        if y_true.shape[-1] != 17:
            raise ValueError("I want 17 numbers")
        return y_pred

    with pytest.raises(
        TrainingError, match=r"17 numbers; a callable in inputs._target_ can return \(inputs, targets\)"
    ):
        training(TRIAL, trained.compiled(loss=picky)).step()()


def test_targets_of_the_users_own_are_used() -> None:
    given = tf.fill((6, 3), 7.0)
    begun = training(TRIAL, trained.compiled(), targets=given)
    assert begun.data[1] is given
    assert math.isfinite(begun.step()()["loss"])


@pytest.mark.parametrize("compiler", ["graph", "eager", "xla"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_that_are_trained_without_the_input_are_refused(optimizer: str, compiler: Compile) -> None:
    """Batch statistics change with the input, and an optimizer's momentum hides that the gradients do not."""
    x = keras.Input((4,))
    constant = kl.Lambda(lambda _: keras.ops.ones((6, 3)))(kl.BatchNormalization(center=False, scale=False)(x))
    model = keras.Model(x, kl.Dense(4)(constant))
    begun = training(replace(TRIAL, compile=compiler, optimizer=OPTIMIZERS[optimizer]), model)
    step = begun.step()
    inspection = Inspection(step, compiler, work.training(layers.trace(model, 6, training=True)))
    inspection.start()
    with pytest.raises(NothingComputedError, match="expected a step that changes the weights by its input"):
        inspection.look(step())


def test_the_products_of_a_models_own_step_are_judged_by_nobody_else() -> None:
    """It computes what it will: where that is not what the layers say, FLOPs are unknown and nothing is doubted."""

    class Half(trained.Own):
        def call(self, x: Any, training: bool = False) -> Any:
            return self.inner(x[:3] if training else x, training=training)

        def train_step(self, data: Any) -> dict[str, Any]:
            return super().train_step((data[0], data[1][:3]))

    model = Half()
    begun = training(TRIAL, model)
    step = begun.step()
    table = work.training(layers.trace(trained.of_its_own(), 6, training=True))
    inspection = Inspection(step, "graph", table, binding=begun.by_the_table)
    inspection.start()
    inspection.look(step())
    assert inspection.flops is None
    assert "work_share" not in inspection.evidence
    assert inspection.facts["flops"].startswith("not counted: the model's own training computes 50% of")


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_that_no_gradient_reaches_are_named() -> None:
    x = keras.Input((4,))
    idle = kl.Lambda(tf.stop_gradient)(kl.Dense(4, name="idle")(x))
    step = training(TRIAL, keras.Model(x, kl.Dense(4)(kl.Add()([idle, x])))).step()
    step()
    assert step.without_gradient == ("idle/kernel", "idle/bias")
