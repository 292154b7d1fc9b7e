"""Loads Keras with its own defaults, whatever `keras.json` in the user's home says.

Keras reads that file on import, and takes from it the type of all numbers, the order of axes and the backend. A trial
sets these itself, and must mean the same on every machine.
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
    # The nets need TensorFlow as the backend, whatever else the user uses Keras with.
    "KERAS_BACKEND": "tensorflow",
    "KERAS_NNX_ENABLED": "false",
    # These cut training short, for debugging.
    "KERAS_MAX_EPOCHS": None,
    "KERAS_MAX_STEPS_PER_EPOCH": None,
}
"""Environment variables that override the file, and the values that we set; None for unset."""
_FILE = "keras.json"


def load() -> None:
    """Set our `VARIABLES` and import Keras as if there were no `keras.json`, valid or not.

    Keras still uses the user's home, which holds the weights that it has downloaded before.
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
    """Reset what `keras.json` sets to Keras' own defaults, in a process that may have imported Keras itself."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
