"""Load pretrained weights: BVLC's `.npy`, Keras' `.weights.h5`, `.keras` and older `.h5`.

A file of weights is data from somewhere else. None of these is allowed to run code: the `.npy` is a pickle, which is
read by an unpickler that knows arrays and nothing more, and of a `.keras` archive only the weights are read.
"""

from __future__ import annotations

import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np

from nets import legacy_h5
from nets.layers import weighted
from nets.nearest import did_you_mean


class WeightsError(ValueError):
    """Weights that were not loaded; the net is as it was.

    WeightsError
    ├── UnreadableWeights   no such file, of no known kind, damaged
    ├── UnsafeWeights       the pickle asks for something besides arrays
    └── UnfitWeights        a layer or a shape is not the net's
    """


class UnreadableWeights(WeightsError):  # noqa: N818 - reads as what it says
    """No such file, of no known kind, or damaged."""


class UnsafeWeights(WeightsError):  # noqa: N818
    """The pickle asks for something besides arrays."""


class UnfitWeights(WeightsError):  # noqa: N818
    """A layer or a shape is not the net's."""


@dataclass(frozen=True)
class Report:
    """What `load` did, by names of layers."""

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    """On the skip list: the net's own values stay."""
    missing: tuple[str, ...]
    """Skipped layers that the file does not have either; always empty for Keras 3's formats, which have no names."""
    unexpected: tuple[str, ...]
    """Layers of the file that the net does not have; always empty for Keras 3's formats."""


def load(model: keras.Model, path: str | Path, skip: Collection[str] = ()) -> Report:
    """Load the file into the net, all layers but those named in `skip`. Raises WeightsError, and then changes nothing.

    `.npy`: a dictionary, layer name -> [kernel, bias], as BVLC's Caffe models are published for TensorFlow; grouped
    kernels are `[height, width, channels / groups, filters]`, as Keras has them. `.weights.h5` and `.keras`: saved
    from a net of the same structure. `.h5` and `.hdf5`: either of Keras' layouts; the older one, that of
    keras.applications' own files, by the names of layers, or in their order where it fits and the names do not.
    """
    path = Path(path)
    layers = weighted(model)
    if not path.is_file():
        raise UnreadableWeights(f"expected a file of weights. Received: {path}, which is not a file")
    if path.name.endswith(".npy"):
        return _load_arrays(layers, read_npy(path), path, skip)
    if path.name.endswith((".h5", ".hdf5")) and legacy_h5.is_hdf5(path):
        arrays = _read_legacy(path)
        if arrays is not None:
            return _load_arrays(layers, legacy_h5.by_order(layers, arrays, skip), path, skip)
    if path.name.endswith((".h5", ".hdf5", ".keras")):
        return _load_keras(model, layers, path, skip)
    raise UnreadableWeights(f"expected a file named *.npy, *.h5, *.hdf5 or *.keras. Received: {path}")


def _read_legacy(path: Path) -> legacy_h5.Arrays | None:
    try:
        return legacy_h5.read(path)
    except Exception as error:  # a damaged file raises almost anything
        raise UnreadableWeights(f"{path} is damaged: {type(error).__name__}: {error}") from error


def read_npy(path: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    """The arrays of a BVLC-style `.npy` by layer. Raises UnreadableWeights or UnsafeWeights; runs nothing."""
    try:
        with path.open("rb") as file:
            _expect_object_header(file, path)
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except (WeightsError, OSError):
        raise
    except Exception as error:  # a damaged pickle raises almost anything: EOFError, KeyError, struct.error, ...
        raise UnreadableWeights(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if isinstance(content, np.ndarray) and content.shape == () and content.dtype == object:
        content = content.item()
    if not isinstance(content, dict):
        raise UnreadableWeights(f"expected {path} to hold a dictionary of layers. Received: {type(content).__name__}")
    return {_text(name): _arrays(name, values, path) for name, values in content.items()}


class _ArrayUnpickler(pickle.Unpickler):
    """Admits what NumPy 1 and 2 pickle an array with, under Python 2 or 3, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module.replace("numpy._core", "numpy.core"), name))
        if admitted is None:
            raise UnsafeWeights(f"expected a pickle of arrays only. Received: one that asks for {module}.{name}")
        return admitted


class _Sealed:
    """A function that a pickle can call but not change: one can set attributes of whatever object it gets."""

    __slots__ = ("function",)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "function", function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnsafeWeights(f"expected a pickle of arrays only. Received: one that sets {name} of a function")

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def _reconstruct(kind: type, shape: tuple[int, ...], _typecode: Any) -> np.ndarray[Any, Any]:
    """An array to be filled by its pickled state: how NumPy pickles below protocol 5."""
    if kind is not np.ndarray or shape != (0,):
        raise UnsafeWeights(f"expected a pickle of plain arrays. Received: {kind} of shape {shape}")
    return np.ndarray(shape, np.dtype("b"))


def _frombuffer(buffer: Any, dtype: np.dtype[Any], shape: Any, order: str, *_axes: Any) -> np.ndarray[Any, Any]:
    """How NumPy pickles from protocol 5 on."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes in protocol 2 and below."""
    if encoding != "latin1":
        raise UnsafeWeights(f"expected bytes as latin1. Received: encoding={encoding!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Sealed(_reconstruct),
    ("numpy.core.numeric", "_frombuffer"): _Sealed(_frombuffer),
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _Sealed(_encode),
}


def _expect_object_header(file: IO[bytes], path: Path) -> None:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        _, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype != np.dtype(object):
        raise UnreadableWeights(f"expected {path} to hold a dictionary of layers. Received: an array of {dtype}")


def _arrays(name: Any, values: Any, path: Path) -> list[np.ndarray[Any, Any]]:
    values = list(values.values()) if isinstance(values, dict) else values
    arrays = list(values) if isinstance(values, list | tuple | np.ndarray) else [values]
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise UnreadableWeights(f"expected {path} to hold arrays of numbers. Received: {type(array)} in {name!r}")
    return arrays


def _text(name: Any) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _load_arrays(
    layers: Mapping[str, Any], arrays: Mapping[str, list[np.ndarray[Any, Any]]], path: Path, skip: Collection[str]
) -> Report:
    _expect_known(skip, {*layers, *arrays})
    wanted = [name for name in layers if name not in skip]
    if missing := [name for name in wanted if name not in arrays]:
        near = did_you_mean(missing[0], arrays)
        raise UnfitWeights(f"{path} has no weights for {_list(missing)}; skip them or choose another file.{near}")
    for name in wanted:
        expected = [tuple(weight.shape) for weight in layers[name].weights]
        received = [array.shape for array in arrays[name]]
        if expected != received:
            raise UnfitWeights(f"{path}: expected {name} of shapes {expected}. Received: {received}")
    for name in wanted:
        layers[name].set_weights(arrays[name])
    return Report(
        loaded=tuple(wanted),
        skipped=tuple(name for name in layers if name in skip),
        missing=tuple(name for name in layers if name in skip and name not in arrays),
        unexpected=tuple(name for name in arrays if name not in layers and name not in skip),
    )


def _load_keras(model: keras.Model, layers: Mapping[str, Any], path: Path, skip: Collection[str]) -> Report:
    """Keras assigns while it reads, so that the values before are kept until all is well."""
    _expect_known(skip, layers)
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            # Keras 3.15 warns of containers of its own making that no file has.
            warnings.filterwarnings("ignore", message="Skipping nested container", category=UserWarning)
            with _weights_file(path) as file:
                model.load_weights(file, objects_to_skip=[layers[name] for name in skip])
    except Exception as error:
        model.set_weights(before)
        kind = UnfitWeights if isinstance(error, ValueError) else UnreadableWeights
        raise kind(f"{path} does not fit {model.name} or is damaged: {_reason(error)}") from error
    return Report(
        loaded=tuple(name for name in layers if name not in skip),
        skipped=tuple(name for name in layers if name in skip),
        missing=(),
        unexpected=(),
    )


@contextmanager
def _weights_file(path: Path) -> Iterator[Path]:
    """The file by a name that Keras takes, or the one inside a `.keras`, whose description of the model is not read."""
    if path.name.endswith(".weights.h5"):
        yield path
        return
    if not path.name.endswith(".keras"):
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "model.weights.h5")
            link.symlink_to(path.resolve())
            yield link
        return
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        yield Path(archive.extract("model.weights.h5", folder))


def _reason(error: Exception) -> str:
    """The sentence of Keras' report that says why: of the first layer that failed."""
    return str(error).split("built=True>:\n\n")[-1].split("\n")[0].split(" Target variable:")[0]


def _expect_known(skip: Collection[str], known: Collection[str]) -> None:
    for name in skip:
        if name not in known:
            raise UnfitWeights(
                f"expected skip to name layers of the net. Received: '{name}'.{did_you_mean(name, known)}"
            )


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
