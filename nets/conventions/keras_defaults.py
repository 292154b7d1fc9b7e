"""Keras with its own defaults, whatever `keras.json` in the user's home says.

Keras reads that file when it is imported: the type of all numbers, the order of axes, the backend. A trial says these
itself, and means the same on every machine.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

VARIABLES: Mapping[str, str | None] = {
    # The nets are for TensorFlow's Keras, whatever else Keras is used for here.
    "KERAS_BACKEND": "tensorflow",
    "KERAS_NNX_ENABLED": "false",
    # They cut trainings short, for debugging.
    "KERAS_MAX_EPOCHS": None,
    "KERAS_MAX_STEPS_PER_EPOCH": None,
}
"""Environment variables that win over the file, and what they are while Keras is ours; None: not set."""
_FILE = "keras.json"


def load() -> None:
    """Set our `VARIABLES` and import Keras as if there were no `keras.json`, not even one that Keras would refuse.

    Its home is the user's, where weights are kept that have been fetched before.
    """
    for name, value in VARIABLES.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    read = json.load

    def read_others(file: Any, *args: Any, **kwargs: Any) -> Any:
        ours = Path(str(getattr(file, "name", ""))).name == _FILE
        return {} if ours else read(file, *args, **kwargs)

    with mock.patch.object(json, "load", read_others):
        importlib.import_module("keras")
    restore()


def restore() -> None:
    """Set what `keras.json` would, in a process that may have imported Keras on its own, to Keras's own defaults."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
