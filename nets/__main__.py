"""Prints layer tables: of a net by its name, `python -m nets vgg16 batch=4 [argument=value ...]`, or of a saved model.

`python -m nets` lists the nets.
"""

from __future__ import annotations

import ast
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # `-m` puts the current folder first, whose `statistics.py`, say, TensorFlow would import.
    here = os.path.realpath(".")
    sys.path[:] = [*(place for place in sys.path if place != here), here]

from rich.console import Console
from rich.table import Table

from nets import NetError, build, check, names
from nets.conventions import keras_defaults
from nets.saved import kinds

if TYPE_CHECKING:
    from tracking.record import Layer

USAGE = "python -m nets NAME [batch=N] [argument=value ...], or python -m nets FILE [batch=N] [trust=true]"


def main(words: list[str]) -> int:
    """Return 0; or print to stderr what is wrong with the arguments, and return 2."""
    if not words:
        lines = [*names(), "", "and every model of keras.applications, e.g. MobileNetV3Large", "", USAGE]
        Console().print("\n".join(lines), markup=False, highlight=False)
        return 0
    try:
        name, batch, args = parse(words)
        is_saved = _is_saved_model(name)
        if problems := _problems_with_saved(args) if is_saved else check(name, args):
            raise NetError(" ".join(problems))
        _start_keras()
        from nets.counting import work
        from nets.counting.layers import totals, trace

        model = _load(name, **args) if is_saved else build(name, **args)
        inference, training = trace(model, batch), trace(model, batch, training=True)
    except ValueError as error:  # NetError, and Keras' own error for an impossible size
        sentence = " ".join(str(error).split())
        Console(stderr=True, soft_wrap=True).print(f"nets: {sentence}", markup=False, highlight=False)
        return 2

    console = Console()
    console.print(table(f"{name}, batch {batch}", inference.rows))
    everything, step = totals(training.rows), work.training(training)
    least = "at least " if step.uncounted else ""
    console.print(
        f"{everything.trainable_params:,} trainable and {everything.other_params:,} other parameters; "
        f"forward {least}{work.forward(inference).counted / 1e9:,.2f} GFLOP, "
        f"training step {least}{step.counted / 1e9:,.2f} GFLOP; "
        f"activations {totals(inference.rows).activation_bytes / 1e6:,.1f} MB"
    )
    if step.uncounted:
        console.print(f"FLOPs not counted: {', '.join(step.uncounted)}", markup=False)
    return 0


def _is_saved_model(name: str) -> bool:
    return kinds.kind_of(name) != "saved_model" or kinds.is_folder(name)


def _problems_with_saved(args: Mapping[str, Any]) -> list[str]:
    wrong = [f"{key}={value}" for key, value in args.items() if key != "trust" or not isinstance(value, bool)]
    return [f"expected trust=true or no arguments for a saved model. Received: {' '.join(wrong)}"] if wrong else []


def _load(path: str, *, trust: bool = False) -> Any:
    from nets.saved import loading

    if not kinds.is_folder(path) and not Path(path).is_file():
        raise NetError(f"expected {kinds.EXPECTED}. Received: {path}, which is none")
    return loading.load(path, trust=trust)


def parse(words: list[str]) -> tuple[str, int, dict[str, Any]]:
    """Return the name, the batch and the net's arguments. Raises NetError."""
    name, *pairs = words
    if "=" in name or name.startswith("-"):
        raise NetError(f"expected {USAGE}. Received: {' '.join(words)}")
    args: dict[str, Any] = {"batch": 1}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise NetError(f"expected argument=value. Received: {pair}")
        args[key] = _value(value)
    batch = args.pop("batch")
    if type(batch) is not int or batch < 1:
        raise NetError(f"expected batch to be a positive integer. Received: batch={batch}")
    return name, batch, args


def table(title: str, layers: tuple[Layer, ...]) -> Table:
    """Return a table with a row per layer; the MB are those of its activations."""
    result = Table(title=title)
    for column in ("name", "kind", "output shape"):
        result.add_column(column, overflow="fold")
    for column in ("parameters", "GFLOP", "MB"):
        result.add_column(column, justify="right", no_wrap=True)
    for layer in layers:
        parameters = layer.trainable_params + layer.other_params
        result.add_row(
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output_shape)),
            f"{parameters:,}" if parameters else "",
            f"{layer.flops / 1e9:,.4f}" if layer.flops else "",
            f"{layer.activation_bytes / 1e6:,.2f}",
        )
    return result


def _value(text: str) -> Any:
    """Read `4`, `0.5`, `true` and `null` as Hydra does, and anything else as text."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _start_keras() -> None:
    """Import Keras with its own defaults, and keep the libraries below it from logging.

    From its import on, TensorFlow's C++ code logs to file descriptor 2, whatever the level is set to.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["MPLBACKEND"] = "agg"  # Keras imports matplotlib, which fails on a notebook's own backend
    sys.stderr.flush()
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        keras_defaults.load()
        import tensorflow as tf

        tf.constant(0)  # starts the runtime, which logs, too
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(sink)
        os.close(kept)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))
