"""Nets that send messages of their own, and leave what they should not."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import keras
import tensorflow as tf

import nets
from tests.support.models.failing import hanging


def saying(message: str) -> keras.Model:
    """A net that sends a message, given as an expression, as the task that builds it does."""
    import decimal
    import fractions

    import numpy as np

    from sweeps.worker import messages

    names = {"np": np, "tf": tf, "Decimal": decimal.Decimal, "Fraction": fractions.Fraction, "Path": Path}
    _sends()[0](eval(message, vars(messages) | names))
    return nets.build("tiny")


def saying_plainly(kind: str, content: object) -> keras.Model:
    """A net that sends any kind and content, past the task's own `send`."""
    _sends()[-1](kind, content)
    return nets.build("tiny")


def unknown_kind() -> keras.Model:
    return saying_plainly("metric", {"loss": 1})


def long_metric() -> keras.Model:
    return saying("Metrics({'x' * 60_000_000: 1})")


def saying_bytes(count: int, text: str = "x") -> keras.Model:
    """A net that writes raw bytes to its connection: the header of a message of `count` bytes, and `text`."""
    for descriptor in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, struct.pack("!i", count) + text.encode())
    return hanging()


def leaving_links() -> keras.Model:
    """A net that leaves links and a pipe among its files."""
    from sweeps.worker import this_trial

    files = this_trial.files()
    (files / "good.txt").write_text("good")
    (files / "secret").symlink_to("/etc/passwd")
    (files / "above").symlink_to("../log.txt")
    (files / "within").symlink_to("good.txt")
    (files / "loop").symlink_to("loop")
    os.mkfifo(files / "fifo")
    return nets.build("tiny")


def _sends() -> list[Callable[..., None]]:
    """Return every `send` of the callers, which only a misbehaving net looks for, the task's first."""
    frame: FrameType | None = sys._getframe()
    sends = []
    while frame:
        if "send" in frame.f_locals:
            sends.append(frame.f_locals["send"])
        frame = frame.f_back
    return sends
