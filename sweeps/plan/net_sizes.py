"""The sizes of nets, found by building them from shapes only; runs in children of the fork server."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from nets import keras_names
from nets.errors import InputError, NetError
from nets.inputs import given
from nets.saved.kinds import SavedModelError
from sweeps.worker.wire import Send
from tracking.record import Trial
from tracking.text.exceptions import first_words
from tracking.text.printable import printable

if TYPE_CHECKING:
    import keras

    from nets.counting.layers import Trace

_MB = 2**20
_LONGEST = 500


@dataclass(frozen=True, kw_only=True)
class Net:
    """The sizes and operations of a float32 net, for one sample; MB are 2**20 bytes."""

    parameter_mb: float
    activation_mb: float
    """The outputs of all layers together."""
    largest_mb: float
    """The largest output of a layer."""
    forward_flops: int | None = None
    """Operations of one forward pass; None: not requested, or some layer is not counted."""
    training_flops: int | None = None
    state_mb: float = 0.0
    """What the optimizer of a training step keeps."""


Request = tuple[Sequence[tuple[Any, Mapping[str, Any]]], bool]
"""Trials as JSON, each with the optimizer of its training step, and whether operations are counted."""


def look(request: Request, send: Send) -> None:
    """Build nets of this project and saved models; send ("net", (index, Net)), or ("problem", (index, why not)).

    The Net is None where a saved model does not show its sizes, as a graph does not.
    """
    import nets

    described, flops = request
    for index, (data, optimizer) in enumerate(described):
        trial = Trial.from_json(data)
        words = " ".join([f"model={trial.model}", *(f"model.{key}={value}" for key, value in trial.model_args.items())])
        try:
            if trial.path is not None:
                net = _of_saved(trial.path, trial, optimizer, flops=flops)
            else:
                net, _ = _built(partial(nets.build, trial.model, **trial.model_args), trial, optimizer, flops=flops)
        except SavedModelError as error:  # it begins with the path
            send("problem", (index, f"model.path={error}."))
        except InputError as error:
            send("problem", (index, f"model.path={trial.path}: {error}."))
        except Exception as error:
            cause = first_words(str(error)) or type(error).__name__
            send("problem", (index, f"{words}: the net cannot be built: {cause}"))
        else:
            send("net", (index, net))


def _of_saved(path: str, trial: Trial, optimizer: Mapping[str, Any], *, flops: bool) -> Net | None:
    """Return the sizes of a saved model; None where it is a graph. Raises SavedModelError, InputError."""
    from nets.saved import loading
    from sweeps.tasks.graphs import inputs

    if (make := loading.outline(path)) is None:
        return None
    users_batch = given.TARGET in trial.inputs
    try:
        net, trace = _built(make, trial, optimizer, flops=flops, traced=True)
        if trace is not None and not users_batch:
            inputs.expect_known(trial, trace)
    except InputError:
        if users_batch:  # it says what is missing
            return None
        raise
    return net


def look_at_users(request: Request, send: Send) -> None:
    """Build nets of the user's own: send ("begun", index), then ("net", sizes), or ("problem", why it is refused).

    Whatever else goes wrong is left to the trials: not everything can be built without variables.
    """
    import tensorflow as tf

    from sweeps.tasks import setup
    from sweeps.tasks.graphs import inputs

    tf.config.set_visible_devices([], "GPU")  # those are for trials
    described, flops = request
    for index, (data, optimizer) in enumerate(described):
        trial = Trial.from_json(data)
        send("begun", index)
        try:
            net, trace = _built(partial(setup.unloaded, trial), trial, optimizer, flops=flops, traced=True)
            if trace is not None and given.TARGET not in trial.inputs:
                inputs.expect_known(trial, trace)
        except NetError as error:
            if given.TARGET not in trial.inputs:  # the batch may say what is missing
                send("problem", printable(f"model._target_={trial.target}: {error}"[:_LONGEST]))
        except Exception:
            continue  # it may need what only a trial has
        else:
            send("net", asdict(net))


def _built(
    make: Callable[[], keras.Model],
    trial: Trial,
    optimizer: Mapping[str, Any],
    *,
    flops: bool,
    traced: bool = False,
) -> tuple[Net, Trace | None]:
    """Build a net in the trial's layout, and return its sizes and, if `traced`, its trace in inference mode."""
    import keras

    from nets.conventions.layout import build_in
    from nets.counting import layers, optimizer_state, work
    from nets.inputs import signature

    said = given.read(trial.inputs)
    with keras.StatelessScope(initialize_variables=False):  # variables stay descriptions, at its end too
        keras.config.set_image_data_format(trial.layout)
        model = build_in(trial.layout, make, said)
        taken = signature.inputs(model, said)
        trace = layers.trace(model, 1, inputs=taken) if flops or traced else None
        training = work.training(layers.trace(model, 1, training=True, inputs=taken)).flops if flops else None
    kept = keras_names.make_optimizer(optimizer) if optimizer else None
    state = optimizer_state.size(kept, model.trainable_variables) if kept is not None else 0
    if traced and trace is not None:
        outputs = [row.activation_bytes for row in trace.rows]
    else:  # a trace takes seconds for the deepest nets
        outputs = [4 * math.prod(output.shape[1:]) for output in _outputs(model)]
    net = Net(
        parameter_mb=4 * model.count_params() / _MB,
        activation_mb=sum(outputs) / _MB,
        largest_mb=max(outputs, default=0) / _MB,
        forward_flops=work.forward(trace).flops if flops and trace is not None else None,
        training_flops=training,
        state_mb=4 * state / _MB,
    )
    return net, trace


def _outputs(model: Any) -> list[Any]:
    """Return the outputs of every layer of a functional model, including those of nested models."""
    import keras

    outputs: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            outputs += _outputs(layer)
        else:
            outputs += keras.tree.flatten(layer.output)
    return outputs
