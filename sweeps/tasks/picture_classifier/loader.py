"""Loads a logged model for MLflow: `mlflow.pyfunc.load_model`, `mlflow models serve`.

Its folder contains `net/`, a TensorFlow SavedModel from RGB bytes to probabilities, and `model.json`: the size, fit
and margin of its pictures and the names of its classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from . import pictures

BATCH = 32


class Classifier:
    """Predicts the classes of pictures given as the bytes of their files."""

    def __init__(self, folder: Path) -> None:
        self._net = tf.saved_model.load(str(folder / "net"))
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.size: tuple[int, int] = (described["size"][0], described["size"][1])
        self.fit: pictures.Fit = described["fit"]
        self.margin: int = described["margin"]
        """Extra pixels per side that are read and cropped, as in validation."""
        self.classes: list[str] = described["classes"]

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return a row for each picture in the column `image`: label, class_id, probability, and all probabilities.

        Raises PictureError for a picture that cannot be read.
        """
        whole = (self.size[0] + self.margin, self.size[1] + self.margin)
        images = np.stack([pictures.read(data, whole, self.fit) for data in model_input["image"]])
        rows = self.probabilities(pictures.middle(images, self.size, self.margin))
        best = rows.argmax(axis=1)
        return pd.DataFrame(
            {
                "label": [self.classes[i] for i in best],
                "class_id": best.astype(np.int64),
                "probability": rows.max(axis=1).astype(np.float64),
                "probabilities": [row.astype(np.float64).tolist() for row in rows],
            }
        )

    def probabilities(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return probabilities `[n, classes]` for RGB bytes `[n, height, width, 3]`."""
        parts: Sequence[Any] = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([self._net.serve(tf.constant(part)).numpy() for part in parts])


def _load_pyfunc(path: str) -> Classifier:
    """MLflow's entry point."""
    return Classifier(Path(path))
