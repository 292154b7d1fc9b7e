"""What kind of saved model a path names, and why it is none; known without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nets.errors import NetError

Kind = Literal["keras", "h5", "saved_model"]
_SUFFIXES: dict[str, Kind] = {".keras": "keras", ".h5": "h5", ".hdf5": "h5"}
GRAPH = "saved_model.pb"
"""The file of a SavedModel folder that holds its graph."""
EXPECTED = f"a whole model: a .keras or .h5 file, or a SavedModel folder, with {GRAPH} in it"

INFERENCE_ONLY = (
    "a SavedModel holds the graph of inference: in training passes its dropout stays off and its batch normalisation "
    "keeps the saved statistics"
)


class SavedModelError(NetError):
    """A saved model cannot be loaded, or not safely; the text begins with its path."""


def kind_of(path: str | Path) -> Kind:
    """Return the kind by the name; whatever has no suffix of a file is taken for a folder."""
    return _SUFFIXES.get(Path(path).suffix.lower(), "saved_model")


def label(path: str) -> str:
    """Return the model's name in tables: that of the file without its suffix, or of the folder."""
    name = Path(path).name
    return Path(name).stem if kind_of(path) != "saved_model" else name


def misnamed(path: str) -> str | None:
    """Return what the name shows to be wrong, as the end of a sentence; None where it may be a whole model."""
    if path.lower().endswith((".weights.h5", ".npy")):
        return f"expected {EXPECTED}. Received: weights only; set model=NAME model.weights={path} with the net's name."
    return None


def misfit(path: str | Path, received: str | None) -> str | None:
    """Return what is wrong with what the path leads to, as the end of a sentence; None: nothing.

    `received` describes it where it is no file that can be read; None: it is one.
    """
    if kind_of(path) == "saved_model":
        if is_folder(path):
            return None
        what = f"a folder without {GRAPH}" if received == "a folder" else received or "a file with another suffix"
        return f"expected {EXPECTED}. Received: {what}."
    return None if received is None else f"expected a file. Received: {received}."


def is_folder(path: str | Path) -> bool:
    """Whether the path leads to a SavedModel folder."""
    try:
        return Path(path, GRAPH).is_file()
    except (OSError, ValueError):
        return False
