"""Nets that fail in every way a trial can fail; `model._target_=tests.support.models.failing.NAME` runs them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import time
from pathlib import Path

import keras
import psutil
import tensorflow as tf

import nets


def raising() -> keras.Model:
    raise ValueError("expected a good day. Received: a bad one")


def failing_once(once: str) -> keras.Model:
    """A net that fails only if it is the first to make the file `once`."""
    return raising() if _first(once) else nets.build("tiny")


def failing_backward() -> keras.Model:
    """A net whose forward pass is fine and whose training mode is not."""

    class Moody(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x, training=False):  # type: ignore[no-untyped-def]
            if training:
                raise RuntimeError("not today")
            return x

    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(Moody()(keras.layers.Flatten()(inputs))))


class UnspeakableError(Exception):
    """An error whose text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def failing_with(what: str) -> keras.Model:
    """A net whose error is hard to write down."""
    if what == "surrogate":
        raise ValueError("half a pair: \ud800, red: \x1b[31m")
    if what == "long":
        raise ValueError("x" * 60_000_000)
    raise UnspeakableError


def half_a_pair() -> keras.Model:
    return failing_with("surrogate")


def segfaulting() -> keras.Model:
    ctypes.string_at(0)
    return nets.build("tiny")


def killed() -> keras.Model:
    os.kill(os.getpid(), signal.SIGKILL)
    return nets.build("tiny")


def exiting(code: int = 7) -> keras.Model:
    os._exit(code)


def aborting(words: str = "expected a good day") -> keras.Model:
    """A net whose library aborts as TensorFlow's do, with a reason and a stack trace."""
    os.write(2, "\n".join([words, "*** Check failure stack trace: ***", *["    @ 0x7f frame"] * 20]).encode())
    os.abort()


def aborting_out_of_memory() -> keras.Model:
    return aborting("F0000 stream.cc:1 CUBLAS_STATUS_ALLOC_FAILED")


def hanging() -> keras.Model:
    time.sleep(3600)
    return nets.build("tiny")


def exhausting() -> keras.Model:
    """A net that asks for more memory than any machine has."""
    keras.ops.zeros((2**22, 2**22))
    return nets.build("tiny")


def greedy() -> keras.Model:
    """The same without the ten seconds for which TensorFlow waits for free memory."""
    bytearray(2**62)
    return nets.build("tiny")


def growing(mb: int = 1024) -> keras.Model:
    """A net that allocates this much memory and keeps it."""
    held = bytearray(os.urandom(2**20)) * mb
    time.sleep(3600)
    del held
    return nets.build("tiny")


def out_of_gpu_memory() -> keras.Model:
    """A net that raises XLA's error for a GPU whose memory has run out."""
    raise tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")


def killing_its_worker() -> keras.Model:
    """A net that kills the Ray worker that waits for it; workers of other sweeps are in other folders."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline()).strip()
            if title == "ray::killing_its_worker" and process.cwd() == os.getcwd():  # noqa: PTH109
                process.kill()
    return hanging()


def killing_its_server(once: str | None = None) -> keras.Model:
    """A net that kills the fork server; with `once`, only if it is the first to make that file."""
    if once is not None and not _first(once):
        return nets.build("tiny")
    os.kill(os.getppid(), signal.SIGKILL)
    return hanging()


def killing_ray() -> keras.Model:
    """A net that kills the raylet that its driver has started."""
    driver = psutil.Process(os.getppid()).parent()
    assert driver is not None
    for process in driver.children():
        if process.name() == "raylet":
            process.kill()
    return hanging()


def killed_in_training(once: str, step: int, image_size: int, num_classes: int) -> keras.Model:
    """The tiny net in a process that is killed at this step of its training, if it is the first to make `once`."""
    from sweeps.tasks.training.classifier import Classifier

    if _first(once):
        steps, train = itertools.count(1), Classifier.train_on_batch

        def train_on_batch(*given: object, **named: object) -> object:
            return killed() if next(steps) == step else train(*given, **named)

        Classifier.train_on_batch = train_on_batch
    return nets.build("tiny", image_size=image_size, num_classes=num_classes)


def _first(path: str) -> bool:
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
