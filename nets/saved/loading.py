"""Loads a saved model as a `keras.Model`. What would run code of the file's own is refused before any of it runs."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.legacy.saving import saving_options, saving_utils

import nets.architectures.inception
import nets.lrn  # noqa: F401 - both register layers of this project's nets
from nets.saved import description, graphs, objects, old_training, precision
from nets.saved.description import MODEL, OF_MODEL, OF_TRAINING, reading
from nets.saved.kinds import SavedModelError, kind_of
from nets.weights.errors import one_line


def load(path: str | Path, *, trust: bool = False) -> keras.Model:
    """Return the saved model with its weights, compiled if it was saved compiled.

    Its layers follow the precision that Keras is set to; the graph of a SavedModel does not. `trust`: run the file's
    code, if it has any. Raises SavedModelError.
    """
    path = Path(path)
    if kind_of(path) == "saved_model":
        return graphs.load(path, trust=trust)
    parts = _checked(path, trust)
    with tempfile.TemporaryDirectory() as folder:
        place = description.write(path, parts, Path(folder))
        with _by_keras(path):
            # What is trusted runs here, by Keras' own rules.
            model = keras.saving.load_model(place, safe_mode=not trust)
    if OF_MODEL in parts:
        old_training.renew_optimizer(model)
    return _model(path, model)


def outline(path: str | Path) -> Callable[[], keras.Model] | None:
    """Check the saved model, and return what builds it without its weights; None for a SavedModel, which is a graph.

    Raises SavedModelError, as the result does, for whatever `load` would refuse without trust.
    """
    path = Path(path)
    if kind_of(path) == "saved_model":
        graphs.expect_harmless(path)
        return None
    parts = _checked(path, trust=False)
    is_old = OF_MODEL in parts
    model = parts[OF_MODEL if is_old else MODEL]
    model.pop("compile_config", None)

    def build() -> keras.Model:
        own = copy.deepcopy(model)  # Keras changes what it is given
        with _by_keras(path):
            if is_old:
                with saving_options.keras_option_scope(use_legacy_config=True):
                    return _model(path, saving_utils.model_from_config(own))
            return _model(path, keras.saving.deserialize_keras_object(own, safe_mode=True))

    return build


def _checked(path: Path, trust: bool) -> dict[str, Any]:
    """Return the model's description, without its layers' common precision, after a check of all that it names."""
    parts = description.read(path)
    with reading(path):  # endlessly nested, say
        if not trust:
            for part in parts.values():
                objects.expect_harmless(part, str(path))
        for key, part in parts.items():
            if key == OF_TRAINING:
                old_training.spell_out(part)
            else:
                precision.follow(part)
    return parts


def _model(path: Path, model: Any) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise SavedModelError(f"{path}: expected a keras.Model. Received: a {type(model).__name__}")
    return model


@contextmanager
def _by_keras(path: Path) -> Iterator[None]:
    """Turn Keras' errors into SavedModelError; what the machine lacks memory for stays what it is."""
    try:
        with warnings.catch_warnings():
            # Keras 3.15 warns about containers of its own that are in no file, and about optimizers without a state.
            for beginning in ("Skipping nested container", "Skipping variable loading for optimizer"):
                warnings.filterwarnings("ignore", message=beginning, category=UserWarning)
            yield
    except (SavedModelError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        raise SavedModelError(f"{path}: expected a model that Keras can load. Received: {one_line(error)}") from error
