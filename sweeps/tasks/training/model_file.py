"""Writes a trained net as an MLflow model, for `mlflow.pyfunc.load_model` and `mlflow models serve`.

This is the only module of the package that imports mlflow, to write files and not to talk to a tracking server.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from sweeps.tasks import picture_classifier
from sweeps.tasks.picture_classifier import pictures
from sweeps.tasks.training.classifier import Classifier
from tracking.sinks.mlflow import client

_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "tensorflow")


def save(model: Classifier, classes: Sequence[str], fit: pictures.Fit, margin: int, folder: Path) -> None:
    """Write the model to `folder`, which must not exist: bytes of picture files in, labels and probabilities out.

    `margin` is by how many pixels per side pictures are read larger than the net's size, and cropped, as in validation.
    """
    client.preload()
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    warnings.filterwarnings("ignore", message=".*An input example was not provided.*")
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "label"),
                ColSpec(DataType.long, "class_id"),
                ColSpec(DataType.double, "probability"),
                ColSpec(Array(DataType.double), "probabilities"),
            ]
        ),
    )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        data = Path(scratch, "classifier")
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", model.probabilities, [tf.TensorSpec((None, *model.size, 3), tf.uint8)])
        archive.write_out(str(data / "net"), verbose=False)
        described = {"size": model.size, "fit": fit, "margin": margin, "classes": list(classes)}
        (data / "model.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module="picture_classifier.loader",
            data_path=str(data),
            code_paths=[str(Path(picture_classifier.__file__).parent)],
            signature=signature,
            pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
            metadata={"classes": list(classes), "python": sys.version.split()[0]},
        )
