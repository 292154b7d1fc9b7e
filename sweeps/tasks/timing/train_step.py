"""The training step that Keras' `fit` takes: forward, loss, backward and the optimizer's update, on one fixed batch.

The step is `model.train_step((inputs, targets))` of a compiled model. A model that was compiled by the function that
makes it keeps its optimizer, loss, metrics and `train_step`, as far as the trial names no other.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend

from nets import keras_names
from nets.counting.layers import Trace
from nets.errors import cause
from sweeps.tasks.graphs import losses
from sweeps.tasks.timing import gradients, replicas
from sweeps.tasks.timing.in_force import NotInForceError
from sweeps.tasks.timing.steps import Step
from sweeps.tasks.timing.updates import Updates
from tracking.record import Compile, Trial

_OF_WRONG_DATA = (TypeError, ValueError, KeyError, IndexError, AttributeError, tf.errors.InvalidArgumentError)
"""What a step raises that cannot do with its targets."""


class TrainingError(ValueError):
    """A model that cannot be trained on the batch."""


class Training:
    """A compiled model with its batch, and what is known of its loss and its optimizer."""

    def __init__(
        self,
        trial: Trial,
        model: keras.Model,
        inputs: Any,
        targets: Any | None,
        trace: Trace,
        mirrored: tf.distribute.Strategy | None = None,
    ) -> None:
        """Compile the model where it is not, make targets if there are none, and create all variables of the step.

        `trace` is the net's in training mode. Raises TrainingError where loss and targets do not go together.
        """
        self._trial, self._model, self._mirrored = trial, model, mirrored
        self._made_targets = targets is None
        self.own_step = getattr(model.train_step, "__func__", None) is not keras.Model.train_step
        """Whether the model's class has a `train_step` of its own."""
        self._own_compute_loss = getattr(model.compute_loss, "__func__", None) is not keras.Model.compute_loss
        self._computes_loss = False
        ends = losses.outputs(trace, logits=trial.target is None and trial.path is None)
        structure = trace.function.structured_outputs
        with mirrored.scope() if mirrored is not None else contextlib.nullcontext():
            self.own_loss = self._compile(ends, structure)
            """Whether the loss is the model's own."""
            self._losses = self._losses_by_output(ends, structure)
            if targets is None:
                self._expect_sizes(ends)
                targets = _targets(trial, self._losses, ends, structure)
            elif not (self.own_step or self._own_compute_loss):
                _expect_classes(targets, self._losses, ends)
            self._inputs, self._targets = inputs, targets
            self._create_variables(structure)
        self.updates = Updates(model)
        self._watch_loss()

    @property
    def by_the_table(self) -> bool:
        """Whether the layer table says what the step computes: it knows nothing of a loss or a step of the model's."""
        return not (self.own_step or self.own_loss or self._own_compute_loss)

    def step(self) -> Step:
        """Return the step to time. When first called, it raises NothingToDifferentiateError or TrainingError.

        A `train_step` of the model's own that cannot do with the targets made here gets inputs alone, as those of
        generative nets expect.
        """
        if self.own_step and self._made_targets and not self._traces():
            made, self._targets = self._targets, None
            if not self._traces():
                self._targets = made
        return self._step()

    @property
    def data(self) -> Any:
        """What the model's `train_step` is called with."""
        return self._inputs if self._targets is None else (self._inputs, self._targets)

    def _traces(self) -> bool:
        """Whether the model's own `train_step` can be traced with the data."""
        try:
            self._step().get_concrete_function()
        except Exception:  # it is the user's code, and is called again when it is timed
            return False
        return True

    def _step(self) -> Step:
        compiler: Compile = self._trial.compile
        data: Any = self.data
        train: replicas.PassFunction = self._train
        if self._mirrored is not None:
            data = replicas.shares(data, self._mirrored)
            train = replicas.train_function(train, self.updates, compiler, self._mirrored)

        def function(data: Any) -> Any:
            self.updates.begin()
            self._computes_loss = False
            metrics = train(data)
            step.without_gradient = self.updates.without_gradient
            return metrics

        if compiler != "eager":
            jit = compiler == "xla" and self._mirrored is None
            function = tf.function(function, jit_compile=jit, autograph=False)
        step = Step(
            function,
            data,
            compiled=compiler != "eager",
            direct=self._mirrored is None,
            inputs=len(tf.nest.flatten(self._inputs, expand_composites=True)),
            trained=_handles(self._model),
            optimizers=tuple(
                part.name.rstrip("0123456789").rstrip("_")
                for each in self.updates.optimizers
                for part in (each, getattr(each, "inner_optimizer", each))
            ),
        )
        return step

    def in_force(self) -> dict[str, Any]:
        """Return facts about optimizer, loss, `train_step` and targets, after steps were taken.

        Raises NotInForceError where the weights are not updated by the optimizer, or the loss is not computed, that the
        trial names.
        """
        wanted, loss = self._trial.optimizer, self._trial.loss
        used = [each for each in self.updates.optimizers if self.updates.per_step[each]]
        others = [each for each in used if each is not getattr(self._model, "optimizer", None)]
        if wanted and (others or not used):
            names = " and ".join(f"the model's own {_class(each)}" for each in others)
            received = names or "a train_step of the model's own that updates without an optimizer"
            raise NotInForceError(f"expected optimizer={wanted['name']} to update the weights. Received: {received}")
        own = f"{type(self._model).__name__}'s own"
        if loss is not None and not self._computes_loss:
            part = "train_step" if self.own_step else "compute_loss"
            raise NotInForceError(f"expected loss={loss} to be computed. Received: {own} {part}, which does not")
        described = [_described(each) for each in used]
        origin = "the model's own" if self._kept_optimizer else "compiled here"
        if self._replaced:
            origin = f"compiled here, in place of the model's own {self._replaced}"
        return {
            "optimizer": described[0] if len(described) == 1 else described,
            "optimizer_from": origin,
            "loss": sorted({losses.label(each) for each in self._losses}) if self._computes_loss else [own],
            "loss_from": "the model's own" if self.own_loss or not self._computes_loss else "compiled here",
            "train_step": own if self.own_step else "Keras'",
            "targets": [{"dtype": each.dtype.name, "shape": list(each.shape)} for each in self._flat_targets()],
        }

    def _compile(self, ends: list[losses.Output], structure: Any) -> bool:
        """Compile the model as far as it is not, or as the trial asks; return whether its loss is its own."""
        trial, model = self._trial, self._model
        loss = None
        before = getattr(model, "optimizer", None)
        ready = model.compiled or (self.own_step and bool(Updates.found(model)))
        if trial.loss is not None or not ready:
            flat = [losses.fitting(end) if trial.loss is None else losses.named(trial.loss, end) for end in ends]
            loss = keras.tree.pack_sequence_as(structure, flat)
        self._kept_optimizer = ready and not trial.optimizer
        self._replaced = _class(before) if ready and trial.optimizer and before is not None else ""
        optimizer = before
        if not self._kept_optimizer:
            optimizer = keras_names.make_optimizer(trial.optimizer or keras_names.DEFAULT_OPTIMIZER)
        if not ready:
            model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        elif trial.optimizer or trial.loss is not None:
            # Keras' own method, as the model's may take other arguments; what is None stays as it was compiled.
            keras.Model.compile(model, optimizer=optimizer, loss=loss, jit_compile=False)
        return loss is None

    def _expect_sizes(self, ends: list[losses.Output]) -> None:
        if any(0 in end.shape for end in ends):
            raise TrainingError(
                f"expected {self._model.name} to have outputs whose sizes its graph shows. Received: one with an open "
                "axis; a callable in inputs._target_ can return (inputs, targets)"
            )

    def _losses_by_output(self, ends: list[losses.Output], structure: Any) -> list[Any]:
        """Return the loss of each output; None where Keras knows of none."""
        compiled = getattr(self._model, "_compile_loss", None)
        if compiled is None:
            return [None] * len(ends)
        names = list(getattr(self._model, "output_names", None) or ())
        return losses.by_output(compiled._user_loss, names, structure)

    def _watch_loss(self) -> None:
        """Take note of whether a step computes the loss that the model was compiled with."""
        if (compiled := getattr(self._model, "_compile_loss", None)) is None:
            return
        compute = compiled.call

        def call(*args: Any, **kwargs: Any) -> Any:
            self._computes_loss = True
            return compute(*args, **kwargs)

        compiled.call = call

    def _create_variables(self, structure: Any) -> None:
        """Create what Keras' `fit` creates before its first step: variables of the optimizer, the loss and metrics.

        Keras does so in inference mode, in which some nets have fewer outputs.
        """
        model, inputs, targets = self._model, self._inputs, self._targets
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built and model.trainable_variables:
            optimizer.build(model.trainable_variables)
        x, y, outputs = (keras.tree.map_structure(_symbol, each) for each in (inputs, targets, structure))
        metrics, loss = (getattr(model, name, None) for name in ("_compile_metrics", "_compile_loss"))
        try:
            if metrics is not None and not metrics.built:
                backend.compute_output_spec(model.compute_metrics, x, y, outputs, sample_weight=None)
            if loss is not None and not loss.built:
                backend.compute_output_spec(loss, y, outputs)
        except _OF_WRONG_DATA as error:
            raise self._unfit(error) from error

    def _flat_targets(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(each) for each in keras.tree.flatten(self._targets) if each is not None]

    def _train(self, data: Any) -> Any:
        """Take one step and return its metrics, the loss among them; all of it stays on the device."""
        if not self.own_step:
            gradients.expect_variables(self._model)
        try:
            return self._model.train_step(data)
        except _OF_WRONG_DATA as error:
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> TrainingError:
        names = ", ".join(sorted({losses.label(each) for each in self._losses}))
        made = ", ".join(f"{each.dtype.name} {list(each.shape)}" for each in self._flat_targets())
        received = cause(error) or type(error).__name__
        way_out = "; a callable in inputs._target_ can return (inputs, targets)" if self._made_targets else ""
        return TrainingError(
            f"expected {self._model.name} to train on targets of {made} with loss {names}. "
            f"Received: {received}{way_out}"
        )


def _targets(trial: Trial, each_loss: list[Any], ends: list[losses.Output], structure: Any) -> Any:
    """Return targets in the structure of the outputs; those for several GPUs are in the machine's memory."""
    with tf.device("CPU:0") if trial.device.gpus > 1 else contextlib.nullcontext():
        pairs = enumerate(zip(each_loss, ends, strict=True))
        flat = [losses.target(loss, end, trial.seed + place) for place, (loss, end) in pairs]
    return keras.tree.pack_sequence_as(structure, flat)


def _expect_classes(targets: Any, each_loss: list[Any], ends: list[losses.Output]) -> None:
    """Raise TrainingError for classes that an output does not have; XLA and GPUs compute nan from them."""
    flat = [tf.convert_to_tensor(each) for each in keras.tree.flatten(targets) if each is not None]
    if len(flat) != len(ends):  # Keras says what it expects
        return
    for loss, end, target in zip(each_loss, ends, flat, strict=True):
        if losses.are_classes(loss, target) and (wrong := losses.beyond(loss, end, target)) is not None:
            raise TrainingError(
                f"expected classes from 0 to {end.shape[-1] - 1} in the targets, as many as the model's output has. "
                f"Received: {wrong}"
            )


def _handles(model: keras.Model) -> frozenset[int]:
    """Return the ids of the handles of all trainable variables, of every replica."""
    return frozenset(
        id(part.handle)
        for variable in model.trainable_variables
        for part in getattr(variable.value, "values", (variable.value,))
    )


def _symbol(value: Any) -> Any:
    return None if value is None else keras.KerasTensor(value.shape, keras.backend.standardize_dtype(value.dtype))


def _class(optimizer: Any) -> str:
    return type(getattr(optimizer, "inner_optimizer", optimizer)).__name__


def _described(optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's class and learning rate, and whether Keras scales the loss for it."""
    rate = getattr(optimizer, "inner_optimizer", optimizer).get_config()["learning_rate"]
    facts = {"class": _class(optimizer), "learning_rate": float(f"{rate:.6g}") if isinstance(rate, float) else rate}
    return facts | ({"loss_scaling": True} if hasattr(optimizer, "dynamic_scale") else {})
