"""What is known of a grid's nets before a trial runs: whether they can be built, and the memory they will take.

Each net is built once, from shapes only: no variable is filled and no device touched, so that VGG16 takes milliseconds.
This happens in a child of the fork server, since the driver never imports TensorFlow. A saved model is built only if it
runs no code of its own. Callables of the user's own are called for a dry run only, in children of their own and for a
limited time: what else they do there, crash or hang, is the outcome of their trials and not the end of the sweep.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nets import keras_names
from sweeps.errors import DispatchError
from sweeps.machine import host
from sweeps.machine.node import Node
from sweeps.machine.node_kinds import NodeKinds
from sweeps.plan import in_child
from sweeps.plan.net_sizes import Net
from sweeps.process import paths
from sweeps.typed import input_paths
from sweeps.worker import log_tail
from sweeps.worker.child import Call
from sweeps.worker.forkserver import connect
from sweeps.worker.limits import Watch
from tracking.record import Trial

_PROCESS_MB = 370
"""Resident memory of a process with TensorFlow imported and a trivial net."""
_PER_PARAMETER = 2.6
"""Memory that a net's parameters take, over their own size: initial values, and copies that the runtime packs."""
_PER_STATE = 1.5
"""The same for what an optimizer keeps."""
_KEPT = 0.45
"""Share of all activations that a training step has in memory at once."""
USERS_S = 20.0
"""How long the user's own nets of a sweep may take to be built here, all together, seconds."""
_LAST_WORDS = 8
"""Lines of the log that are reported if the process dies."""


Key = str


def key(trial: Trial) -> Key:
    """Return what a net's sizes depend on; trials with the same key share it."""
    what = (trial.model, trial.path, trial.target, trial.model_args, trial.layout, trial.inputs, _optimizer(trial))
    return json.dumps(what, sort_keys=True, default=dict)


def _optimizer(trial: Trial) -> Mapping[str, Any]:
    """Return the optimizer of a trial's training step as its config; empty where the trial has none."""
    return (trial.optimizer or keras_names.DEFAULT_OPTIMIZER) if "train_step" in trial.passes else {}


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
        needed = {key(trial): trial for trial in trials if _is_harmless(trial)}
        new = self._new(needed, flops=flops)
        died = self._look([needed[net] for net in new], server(), flops=flops) if new else []
        return [*(self._unbuildable[net] for net in needed if net in self._unbuildable), *died]

    def problems_of_users(
        self, trials: Iterable[Trial], server: Callable[[], str], *, flops: bool = False
    ) -> list[str]:
        """Return a sentence for each net of the user's own that its trials would refuse, as for an unknown input.

        Nets that crash, or that are not built in time, are left to their trials.
        """
        needed = {key(trial): trial for trial in trials if trial.target is not None and trial.task == "benchmark"}
        new = [needed[net] for net in self._new(needed, flops=flops)]
        self._seen |= {(key(trial), flops) for trial in new}
        deadline = time.perf_counter() + USERS_S
        while new and (left_s := deadline - time.perf_counter()) > 0:
            begun = self._look_at_users(new, server(), left_s, flops=flops)
            new = new[begun + 1 :]  # the one that was begun last has ended the process
        return [self._unbuildable[net] for net in needed if net in self._unbuildable]

    def _new(self, needed: Iterable[Key], *, flops: bool) -> list[Key]:
        return [net for net in needed if net not in self._unbuildable and (net, flops) not in self._seen]

    def _look_at_users(self, trials: Sequence[Trial], server: str, seconds: float, *, flops: bool) -> int:
        """Build these nets in one process and keep the results; return the index of the last that it has begun."""
        last = 0

        def receive(kind: str, value: Any) -> None:
            nonlocal last
            if kind == "begun":
                last = int(value)
            elif kind == "net":
                self.nets[key(trials[last])] = Net(**value)
            elif kind == "problem":
                self._unbuildable[key(trials[last])] = str(value)

        request = ([(trial.to_json(), dict(_optimizer(trial))) for trial in trials], flops)
        with contextlib.suppress(DispatchError):  # a server that is lost is replaced before the trials
            in_child.run(server, "sweeps.plan.net_sizes:look_at_users", request, receive, timeout_s=seconds)
        return last

    def _look(self, trials: Sequence[Trial], server: str, *, flops: bool) -> list[str]:
        """Build each trial's net and keep the result; return why the process that built them died, if it did."""
        oom_kills = host.oom_kills()
        nets = [(trial.to_json(), dict(_optimizer(trial))) for trial in trials]
        with connect(server) as connection, tempfile.NamedTemporaryFile() as log:
            status: int | None = None
            words = ""
            # Suppressed: the server was lost.
            with contextlib.suppress(EOFError, OSError), Watch(connection, started=time.perf_counter()) as watch:
                connection.send(Call(function="sweeps.plan.net_sizes:look", argument=(nets, flops), log=log.name))
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
        if set(trial.passes) - {"forward"}:
            activations = max(activations, _KEPT * net.activation_mb)
        weights = _PER_PARAMETER * net.parameter_mb + _PER_STATE * net.state_mb
        return _PROCESS_MB + weights + scale * activations * trial.batch

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


def _is_harmless(trial: Trial) -> bool:
    """Whether the net needs no code of the user's own, and no file that is elsewhere."""
    if trial.path is None:
        return trial.target is None
    return not trial.model_args.get("trust") and paths.kind(trial.path) in ("a file", "a folder")


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
