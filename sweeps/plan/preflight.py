"""What is known of a grid's nets before a trial runs: whether they can be built, and the memory they will take.

Each net is built once, from shapes only: no variable is filled and no device touched, so that VGG16 takes milliseconds.
This happens in a child of the fork server, since the driver never imports TensorFlow. A callable of the user's own is
not called: its code runs in trials, where a crash, a hang or too much memory is a result and not the end of the sweep.
For the same reason a saved model is built only if it runs no code of its own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nets.saved.kinds import SavedModelError
from sweeps.machine import host
from sweeps.machine.node import Node
from sweeps.machine.node_kinds import NodeKinds
from sweeps.process import paths
from sweeps.typed import input_paths
from sweeps.worker import log_tail
from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.limits import Watch
from sweeps.worker.wire import Send
from tracking.record import Layout, Trial

_PROCESS_MB = 370
"""Resident memory of a process with TensorFlow imported and a trivial net."""
_PER_PARAMETER = 2.6
"""Memory that a net's parameters take, over their own size: initial values, and copies that the runtime packs."""
_KEPT = 0.45
"""Share of all activations that a training step has in memory at once."""
_LAST_WORDS = 8
"""Lines of the log that are reported if the process dies."""


@dataclass(frozen=True, kw_only=True)
class Net:
    """The sizes and operations of a float32 net, for one image; MB are 2**20 bytes."""

    parameter_mb: float
    activation_mb: float
    """The outputs of all layers together."""
    largest_mb: float
    """The largest output of a layer."""
    forward_flops: int | None = None
    """Operations of one forward pass; None: not requested, or some layer is not counted."""
    training_flops: int | None = None


Key = tuple[str, str | None, str, Layout]


def key(trial: Trial) -> Key:
    """Return what a net depends on; trials with the same key share it."""
    return trial.model, trial.path, json.dumps(dict(trial.model_args), sort_keys=True), trial.layout


class Preflight:
    """Builds each net once, and knows from that which cannot be built and how much memory trials need."""

    def __init__(self) -> None:
        self.nets: dict[Key, Net] = {}
        self._seen: set[tuple[Key, bool]] = set()
        self._unbuildable: dict[Key, str] = {}

    def problems(self, trials: Iterable[Trial], server: Callable[[], str], *, flops: bool = False) -> list[str]:
        """Return a sentence for each net that cannot be built; the fork server at `server()` builds those that are new.

        `flops`: count their operations, too.
        """
        needed = {key(trial): trial for trial in trials if _can_be_built(trial)}
        new = [net for net in needed if net not in self._unbuildable and (net, flops) not in self._seen]
        died = self._look([needed[net] for net in new], server(), flops=flops) if new else []
        return [*(self._unbuildable[net] for net in needed if net in self._unbuildable), *died]

    def _look(self, trials: Sequence[Trial], server: str, *, flops: bool) -> list[str]:
        """Build each trial's net and keep the result; return why the process that built them died, if it did."""
        oom_kills = host.oom_kills()
        nets = [(trial.model, trial.path, dict(trial.model_args), trial.layout) for trial in trials]
        with connect(server) as connection, tempfile.NamedTemporaryFile() as log:
            status: int | None = None
            words = ""
            # Suppressed: the server was lost.
            with contextlib.suppress(EOFError, OSError), Watch(connection, started=time.perf_counter()) as watch:
                connection.send(Call(function="sweeps.plan.preflight:look", argument=(nets, flops), log=log.name))
                while (message := connection.recv())[0] != "exit":
                    if message[0] == "pid":
                        watch.process(message[1])
                    elif message[0] == "failed":
                        words = message[1]["failure"]["message"]
                    elif message[0] == "net":
                        index, net = message[1]
                        if net is not None:
                            self.nets[key(trials[index])] = net
                        self._seen.add((key(trials[index]), flops))
                    elif message[0] == "problem":
                        index, sentence = message[1]
                        self._unbuildable[key(trials[index])] = input_paths.as_typed(trials[index], sentence)
                status = message[1]
            if status == 0:
                return []
            words = words or log_tail.tail(Path(log.name), _LAST_WORDS)
            words = _died(status, words, starved=host.oom_kills() > oom_kills)
            return [f"the nets could not be checked: {words}"]

    def memory_mb(self, trial: Trial) -> float | None:
        """Return about how much resident memory the trial will need, in units of 2**20 bytes; None for an unknown net.

        The formula was fitted to measured peaks of this project's nets and is within a third of each.
        """
        if (net := self.nets.get(key(trial))) is None:
            return None
        scale = 0.5 if trial.precision in ("float16", "bfloat16") else 1.0
        activations = 2 * net.largest_mb
        if "forward_backward" in trial.passes:
            activations = max(activations, _KEPT * net.activation_mb)
        return _PROCESS_MB + _PER_PARAMETER * net.parameter_mb + scale * activations * trial.batch

    def warnings(self, trials: Iterable[Trial], nodes: Sequence[Node]) -> list[str]:
        """Return a sentence for the smallest batch of each net and device that will hardly fit in its memory."""
        smallest: dict[tuple[Key, str], str] = {}
        kinds = NodeKinds(nodes)
        for trial in sorted(trials, key=lambda trial: trial.batch):
            needed, has = self.memory_mb(trial), memory_of(trial, kinds)
            if needed is not None and has is not None and needed > has:
                sentence = (
                    f"{trial.model} at batch {trial.batch} on {trial.device.label} will take about {needed:.0f} MB and "
                    f"can have {has:.0f} MB: it, and larger batches, may run out of memory"
                )
                smallest.setdefault((key(trial), trial.device.label), sentence)
        return list(smallest.values())


def _died(status: int | None, words: str, *, starved: bool) -> str:
    """Return how the process that builds nets died, by its wait status (None: unknown), and its last words.

    `starved`: the kernel killed a process for lack of memory in the meantime.
    """
    how = ""
    if status is not None and os.WIFSIGNALED(status):
        how = f" of {host.signal_name(os.WTERMSIG(status))}"
        if starved and os.WTERMSIG(status) == signal.SIGKILL:
            how += f", {host.out_of_memory()}"
    return "\n".join(filter(None, [f"the process that builds them has died{how}", words]))


def memory_of(trial: Trial, nodes: NodeKinds) -> float | None:
    """Return the memory that the trial may take on the roomiest node that it fits, in units of 2**20 bytes.

    On a GPU that is its limit of GPU memory. None where it is not known.
    """
    if trial.device.kind == "gpu":
        return trial.device.gpu_memory_mb
    limits = [limit for limit in (nodes.room_mb(trial.device), trial.device.memory_mb) if limit is not None]
    return min(limits, default=None)


def _can_be_built(trial: Trial) -> bool:
    """Whether the net can be built here and now: it needs no code of the user's own, and no file that is elsewhere."""
    if trial.path is None:
        return trial.target is None
    return not trial.model_args.get("trust") and paths.kind(trial.path) in ("a file", "a folder")


def look(request: tuple[list[tuple[str, str | None, Mapping[str, Any], Layout]], bool], send: Send) -> None:
    """Build each net from shapes only and send ("net", (index, Net)), or ("problem", (index, why not)).

    The Net is None where a saved model does not show its sizes.
    """
    import nets
    from nets.saved import loading

    descriptions, flops = request
    for index, (name, path, arguments, layout) in enumerate(descriptions):
        words = " ".join([f"model={name}", *(f"model.{key}={value}" for key, value in arguments.items())])
        try:
            make = partial(nets.build, name, **arguments)
            net = (
                _sizes(make, layout, flops=flops)
                if path is None
                else _sizes_of_saved(loading.outline(path), layout, flops=flops)
            )
        except SavedModelError as error:  # it begins with the path
            send("problem", (index, f"model.path={error}."))
        except Exception as error:
            cause = next(filter(None, str(error).splitlines()), type(error).__name__)
            send("problem", (index, f"{words}: the net cannot be built: {cause}"))
        else:
            send("net", (index, net))


def _sizes_of_saved(make: Callable[[], Any] | None, layout: Layout, *, flops: bool) -> Net | None:
    """Return a saved model's sizes; None where they are not in it: of a graph, or of inputs with open axes.

    Raises SavedModelError where it cannot be built.
    """
    if make is None:
        return None
    try:
        return _sizes(make, layout, flops=flops)
    except SavedModelError:
        raise
    except Exception:  # it was built, and only what the trial sets says the rest
        return None


def _sizes(make: Callable[[], Any], layout: Layout, *, flops: bool) -> Net:
    """Return the sizes of the net that `make` builds in this layout."""
    import keras

    from nets.conventions.layout import build_in
    from nets.counting import layers, work

    with keras.StatelessScope(initialize_variables=False):  # variables stay descriptions, at its end too
        keras.config.set_image_data_format(layout)
        model = build_in(layout, make)
        forward = work.forward(layers.trace(model, 1)).flops if flops else None
        training = work.training(layers.trace(model, 1, training=True)).flops if flops else None
    sizes = [4 * math.prod(output.shape[1:]) / 2**20 for output in _outputs(model)]
    return Net(
        parameter_mb=4 * model.count_params() / 2**20,
        activation_mb=sum(sizes),
        largest_mb=max(sizes),
        forward_flops=forward,
        training_flops=training,
    )


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
