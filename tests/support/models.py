"""Nets that fail in every way a trial can fail; `model._target_=tests.support.models.NAME` runs them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import psutil
import tensorflow as tf

import nets


def small(width: int = 4) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(width, name="logits")(keras.layers.Flatten()(inputs)))


def classes(num_classes: int = 4) -> keras.Model:
    """A net with an argument that nets of ours have, too."""
    return small(num_classes)


def scaled_softmax(num_classes: int) -> keras.Model:
    """A linear net that scales its pictures itself and ends in a softmax."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax", name="head")(x))


def first_class_only(num_classes: int) -> keras.Model:
    """A net that sees the first class in every picture."""
    inputs = keras.Input((8, 8, 3))
    bias = keras.initializers.Constant([5.0] + [0.0] * (num_classes - 1))
    head = keras.layers.Dense(num_classes, kernel_initializer="zeros", bias_initializer=bias)
    return keras.Model(inputs, head(keras.layers.Flatten()(inputs)))


def frozen(num_classes: int) -> keras.Model:
    """A net that is not to be trained."""
    model = small(num_classes)
    model.trainable = False
    return model


def raising() -> keras.Model:
    raise ValueError("expected a good day. Received: a bad one")


def segfaulting() -> keras.Model:
    ctypes.string_at(0)
    return nets.build("tiny")


def killed() -> keras.Model:
    os.kill(os.getpid(), signal.SIGKILL)
    return nets.build("tiny")


def exiting(code: int = 7) -> keras.Model:
    os._exit(code)


def aborting(words: str = "expected a good day") -> keras.Model:
    """A net whose library gives up, as TensorFlow's do: a reason, a stack trace, an abort."""
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
    """The same without the ten seconds that TensorFlow waits for memory to become free."""
    bytearray(2**62)
    return nets.build("tiny")


def growing(mb: int = 1024) -> keras.Model:
    """A net that takes this much memory and keeps it."""
    held = bytearray(os.urandom(2**20)) * mb
    time.sleep(3600)
    del held
    return nets.build("tiny")


def killing_its_worker() -> keras.Model:
    """A net that takes the Ray worker along that waits for it; workers of other sweeps are in other folders."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline()).strip()
            if title == "ray::killing_its_worker" and process.cwd() == os.getcwd():  # noqa: PTH109
                process.kill()
    return hanging()


def killing_its_server(once: str | None = None) -> keras.Model:
    """A net that takes the fork server along; with `once`, only if it is the first to make that file."""
    if once is not None and not _first(once):
        return nets.build("tiny")
    os.kill(os.getppid(), signal.SIGKILL)
    return hanging()


def killing_ray() -> keras.Model:
    """A net that takes the raylet along that its driver has started."""
    driver = psutil.Process(os.getppid()).parent()
    assert driver is not None
    for process in driver.children():
        if process.name() == "raylet":
            process.kill()
    return hanging()


def failing_once(once: str) -> keras.Model:
    """A net that fails only if it is the first to make the file `once`."""
    return raising() if _first(once) else nets.build("tiny")


def _first(path: str) -> bool:
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def killed_in_training(once: str, step: int, image_size: int, num_classes: int) -> keras.Model:
    """The tiny net in a process that is killed at this step of its training, if it is the first to make `once`."""
    from sweeps.tasks.training.classifier import Classifier

    if _first(once):
        steps, train = itertools.count(1), Classifier.train_on_batch

        def train_on_batch(*given: object, **named: object) -> object:
            return killed() if next(steps) == step else train(*given, **named)

        Classifier.train_on_batch = train_on_batch
    return nets.build("tiny", image_size=image_size, num_classes=num_classes)


def waiting() -> keras.Model:
    """A net that waits for the file `go` in the current folder, and takes it."""
    while True:
        try:
            Path("go").unlink()
        except FileNotFoundError:
            time.sleep(0.01)
        else:
            return nets.build("tiny")


def waiting_for(path: str) -> keras.Model:
    """A net that waits for a file."""
    while not Path(path).exists():
        time.sleep(0.01)
    return nets.build("tiny")


def meeting(folder: str, count: int) -> keras.Model:
    """A net that waits until `count` processes are about to build theirs."""
    Path(folder, f"{os.getpid()}.here").touch()
    while len(list(Path(folder).glob("*.here"))) < count:
        time.sleep(0.01)
    return nets.build("tiny")


def failing_backward() -> keras.Model:
    """A net whose forward pass is fine and whose training mode is not."""

    class Moody(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x, training=False):  # type: ignore[no-untyped-def]
            if training:
                raise RuntimeError("not today")
            return x

    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(Moody()(keras.layers.Flatten()(inputs))))


def slow_to_trace(seconds: float) -> keras.Model:
    """A net that is traced so slowly that a clock tells a step that does so from others on any machine."""

    class Slow(keras.layers.Flatten):  # type: ignore[misc]
        def call(self, x):  # type: ignore[no-untyped-def]
            time.sleep(seconds)
            return super().call(x)

    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(Slow()(inputs)))


def pruned() -> keras.Model:
    """A net that says it computes a large product and whose output needs none of it."""

    class Idle(keras.layers.Dense):  # type: ignore[misc]
        def call(self, x, training=None):  # type: ignore[no-untyped-def]
            super().call(x, training=training)
            return keras.ops.zeros((keras.ops.shape(x)[0], self.units))

    inputs = keras.Input((64, 64, 3))
    hidden = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, Idle(8192)(hidden))


def out_of_gpu_memory() -> keras.Model:
    """A net that says what XLA says when a GPU's memory has run out."""
    raise tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")


class Spy(keras.layers.Layer):  # type: ignore[misc]
    """A layer that changes nothing and writes what it is given, once it runs, to the log: lowest, highest, distinct."""

    def call(self, x):  # type: ignore[no-untyped-def]
        flat = tf.reshape(tf.cast(x, tf.float32), [-1])
        count = tf.size(tf.unique(flat)[0])
        with tf.control_dependencies([tf.print("SPY", tf.reduce_min(flat), tf.reduce_max(flat), count, summarize=-1)]):
            return tf.identity(x)


def tokens(kind: str = "embedding", size: int = 1000, length: int = 64, dtype: str = "int32") -> keras.Model:
    """A net of tokens that are looked up in one of many ways."""
    given = keras.Input((length,), dtype=dtype, name="tokens")
    seen = Spy()(given) if kind != "unspied" else given
    x = looked_up(kind, seen, size)
    return keras.Model(given, keras.layers.Dense(4)(keras.layers.Flatten()(x)))


def looked_up(kind: str, x, size: int):  # type: ignore[no-untyped-def]
    table = keras.ops.ones((size, 8))
    if kind == "masked":
        return keras.layers.LSTM(3)(keras.layers.Embedding(size, 8, mask_zero=True)(x))
    if kind == "take":
        return keras.ops.take(table, keras.ops.expand_dims(x, -1), axis=0)
    if kind == "gather":
        return keras.layers.Lambda(lambda x: tf.gather(tf.ones((size, 8)), x[:, ::2]), output_shape=(32, 8))(x)
    if kind == "one_hot":
        return keras.ops.one_hot(x, size)
    if kind == "category":
        return keras.layers.CategoryEncoding(size, output_mode="multi_hot")(x)
    if kind == "smallest":
        both = [keras.layers.Embedding(rows, 8)(x) for rows in (size, 3 * size)]
        return keras.layers.Add()(both)
    if kind == "offset":
        return keras.layers.Embedding(size, 8)(x + 5)
    if kind == "counts":
        return keras.ops.cast(x, "float32")
    if kind == "vocabulary":
        return keras.ops.cast(keras.layers.IntegerLookup(vocabulary=[7, 70, 700])(x), "float32")
    return keras.layers.Embedding(size, 8)(x)


def mostly_pruned() -> keras.Model:
    """A net with a large product that nothing is made of, and a small one that is its output."""

    class Idle(keras.layers.Dense):  # type: ignore[misc]
        def call(self, x, training=None):  # type: ignore[no-untyped-def]
            super().call(x, training=training)
            return x[:, : self.units]

    inputs = keras.Input((64, 64, 3))
    hidden = Idle(8192)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


def broken(kind: str) -> keras.Model:
    """A net in which something of what it says that it computes is not done."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Flatten()(inputs)
    if kind == "frozen":
        model = keras.Model(inputs, keras.layers.Dense(4)(x))
        model.trainable = False
        return model
    if kind == "no_gradient":
        return keras.Model(inputs, keras.ops.stop_gradient(keras.layers.Dense(4)(x)))
    if kind == "some_gradient":
        return keras.Model(
            inputs, keras.layers.Dense(4)(keras.ops.stop_gradient(keras.layers.Dense(4, name="lost")(x)))
        )
    if kind == "zeros":
        return keras.Model(inputs, keras.layers.Dense(4)(keras.ops.zeros_like(x)))
    if kind == "twice":  # the same numbers: a table of constants, not a layer's weights
        table = keras.ops.ones((192, 4))
        both = [keras.ops.matmul(x, table) for _ in range(2)]
        return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Add()(both)))
    if kind == "log":
        return keras.Model(inputs, keras.layers.Dense(4)(keras.ops.log(x)))
    if kind == "raw":
        product = keras.layers.Lambda(lambda x: tf.matmul(x, tf.ones((192, 64))), output_shape=(64,), name="raw")
        return keras.Model(inputs, keras.layers.Dense(4)(product(x)))
    if kind == "sliced":  # the first 64 of 68 features are of no use
        unused = keras.layers.Dense(64)(keras.layers.Dense(64)(x))
        return keras.Model(inputs, keras.layers.Concatenate()([unused, keras.layers.Dense(4)(x)])[:, 64:])
    if kind == "loop":  # so little a turn that one of them would not show beside the layer
        loop = keras.layers.Lambda(_centred, output_shape=(192,))
        return keras.Model(inputs, keras.layers.Dense(64)(loop(x)))
    if kind == "fourier":
        transform = keras.layers.Lambda(lambda x: tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64))))
        return keras.Model(inputs, keras.layers.Dense(64)(transform(x)))
    raise ValueError(kind)


def _centred(x: tf.Tensor) -> tf.Tensor:
    """The tensor less its rows' means, a hundred times."""
    mean = tf.fill((192, 1), 1 / 192)
    turn = (lambda index, _: index < 100, lambda index, x: (index + 1, x - tf.matmul(x, mean)))
    return tf.while_loop(*turn, (0, x), maximum_iterations=100)[1]


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model that only its `build` tells what it takes."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.conv = keras.layers.Conv2D(4, 3, name="conv")
        self.flatten = keras.layers.Flatten(name="flatten")
        self.dense = keras.layers.Dense(3, name="dense")

    def call(self, image):  # type: ignore[no-untyped-def]
        return self.dense(self.flatten(self.conv(image)))


def subclassed(build: bool = True) -> keras.Model:
    model = Subclassed()
    if build:
        model.build((None, 8, 8, 3))
    return model


def saying(kind: str, value: str) -> keras.Model:
    """A net that says something of its own to whoever times it; `value` is an expression."""
    import decimal
    import fractions

    import numpy as np

    names = {"np": np, "tf": tf, "Decimal": decimal.Decimal, "Fraction": fractions.Fraction, "Path": Path}
    _send_of_task()(kind, eval(value, names))
    return nets.build("tiny")


def saying_bytes(count: int, text: str = "x") -> keras.Model:
    """A net that writes bytes where its messages go, as the header of a message of `count` bytes and `text`."""
    for descriptor in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, struct.pack("!i", count) + text.encode())
    return hanging()


def _send_of_task() -> Callable[[str, object], None]:
    """The `send` of the task that builds this net, found as only a net of bad manners would."""
    frame = sys._getframe()
    while "send" not in frame.f_locals:
        assert frame.f_back
        frame = frame.f_back
    return frame.f_locals["send"]  # type: ignore[no-any-return]


class UnspeakableError(Exception):
    """An error that fails itself when it is asked what it is."""

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


def unknown_kind() -> keras.Model:
    return saying("metric", "{'loss': np.float32(1)}")


def long_metric() -> keras.Model:
    return saying("metrics", "{'x' * 60_000_000: 1}")


def leaving_links() -> keras.Model:
    """A net that leaves links and a pipe among its files."""
    from sweeps.worker import trial_folder

    files = trial_folder.files()
    (files / "good.txt").write_text("good")
    (files / "secret").symlink_to("/etc/passwd")
    (files / "above").symlink_to("../log.txt")
    (files / "within").symlink_to("good.txt")
    (files / "loop").symlink_to("loop")
    os.mkfifo(files / "fifo")
    return nets.build("tiny")
