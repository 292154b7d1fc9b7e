"""Saved models for tests, made by Keras and TensorFlow themselves, and files that were changed to do harm."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


def small(compiled: bool = False) -> keras.Model:
    """Return a net with all that behaves differently in training: `[batch, 8, 8, 3]` to 5 probabilities."""
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="softmax", kernel_regularizer="l2", name="dense")(x)
    model = keras.Model(image, x, name="small")
    if compiled:
        rate = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
        loss = keras.losses.SparseCategoricalCrossentropy()
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy", keras.metrics.Mean()])
    return model


def with_lambda(canary: Path) -> keras.Model:
    """Return a net whose Lambda layer makes the file `canary` whenever it is called."""
    function = eval(f"lambda x: (__import__('pathlib').Path({str(canary)!r}).touch(), x)[1]")
    image = keras.Input((4,), name="image")
    x = keras.layers.Lambda(function, output_shape=(4,), name="sly")(image)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    canary.unlink(missing_ok=True)
    return model


def edited(path: Path, change: Callable[[dict[str, Any]], None], members: tuple[tuple[Any, bytes], ...] = ()) -> Path:
    """Change a `.keras` file's description in place, and add further members to the archive."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(content["config.json"])
    change(description)
    content["config.json"] = json.dumps(description).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (*content.items(), *members):
            archive.writestr(name, data)
    return path


def of_graph(folder: Path, function: Callable[[Any], Any], *resources: Any) -> Path:
    """Save a SavedModel of the function, from `[batch, 4]` floats; `resources` are what it uses."""
    module = tf.Module()
    module.kept = resources
    module.w = tf.Variable(tf.ones((4, 2)))
    traced = tf.function(
        lambda image: function(image) @ module.w, input_signature=[tf.TensorSpec((None, 4), tf.float32, "image")]
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": traced})
    return folder
