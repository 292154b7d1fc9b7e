"""Loads pretrained weights: BVLC's `.npy`, Keras' `.weights.h5`, `.keras` and older `.h5`.

A file of weights comes from elsewhere. None may run code, refer to other files, or take unlimited memory: a `.npy` is a
pickle, read by an unpickler that knows only arrays (`nets/weights/npy.py`); an HDF5 file is checked before it is read
(`nets/weights/hdf5.py`); and from a `.keras` archive only the weights are unpacked, up to a plausible size.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from nets.counting.layers import weighted
from nets.errors import did_you_mean
from nets.weights import hdf5, legacy_h5
from nets.weights.errors import UnfitWeights, UnreadableWeights, UnsafeWeights, WeightsError, one_line
from nets.weights.npy import read_npy


@dataclass(frozen=True)
class Report:
    """The result of `load`, by names of layers."""

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    """Layers on the skip list, which keep the net's own values."""
    missing: tuple[str, ...]
    """Skipped layers that the file lacks; always empty for Keras 3's formats, which have no names."""
    unexpected: tuple[str, ...]
    """Layers of the file that the net lacks; always empty for Keras 3's formats."""


def load(model: keras.Model, path: str | Path, skip: Collection[str] = ()) -> Report:
    """Load the file into all layers of the net except those in `skip`. Raises WeightsError, and then changes nothing.

    `.npy`: a dictionary, layer name -> [kernel, bias], as BVLC's Caffe models are published for TensorFlow; grouped
    kernels are `[height, width, channels / groups, filters]`, as Keras has them. `.weights.h5` and `.keras`: saved
    from a net of the same structure. `.h5` and `.hdf5`: either of Keras' layouts; the older one, that of
    keras.applications' own files, by the names of layers, or in their order where it fits and the names do not.
    """
    path = Path(path)
    layers = weighted(model)
    try:
        is_file = path.is_file()
    except OSError:  # a name that is too long, or a folder that this user cannot enter
        is_file = False
    if not is_file:
        raise UnreadableWeights(f"expected a file of weights. Received: {path}, which is not a file")
    if path.name.endswith(".npy"):
        return _load_arrays(layers, read_npy(path), path, skip)
    if path.name.endswith((".h5", ".hdf5")) and legacy_h5.is_hdf5(path):
        with hdf5.opened(path, model.count_params()) as file:
            arrays = legacy_h5.arrays(file)
            if arrays is not None:
                return _load_arrays(layers, legacy_h5.by_order(layers, arrays, skip), path, skip)
    if path.name.endswith((".h5", ".hdf5", ".keras")):
        return _load_keras(model, layers, path, skip)
    raise UnreadableWeights(f"expected a file named *.npy, *.h5, *.hdf5 or *.keras. Received: {path}")


def _load_arrays(layers: Mapping[str, Any], arrays: legacy_h5.Arrays, path: Path, skip: Collection[str]) -> Report:
    """Check names and shapes, read the net's weights, and only then assign them."""
    _expect_known(skip, {*layers, *arrays})
    wanted = [name for name in layers if name not in skip]
    if missing := [name for name in wanted if name not in arrays]:
        near = did_you_mean(missing[0], arrays)
        raise UnfitWeights(f"{path} has no weights for {_list(missing)}; skip them or choose another file.{near}")
    for name in wanted:
        expected = [tuple(weight.shape) for weight in layers[name].weights]
        received = [array.shape for array in arrays[name]]
        if expected != received:
            more = " and more" if len(received) > len(expected) + 3 else ""
            shown = f"{received[: len(expected) + 3]}{more}"
            raise UnfitWeights(f"{path}: expected {name} of shapes {expected}. Received: {shown}")
    try:
        values = {name: [array[()] for array in arrays[name]] for name in wanted}
    except Exception as error:  # damaged data in HDF5
        raise UnreadableWeights(f"{path} is damaged: {one_line(error)}") from error
    for name in wanted:
        layers[name].set_weights(values[name])
    return Report(
        loaded=tuple(wanted),
        skipped=tuple(name for name in layers if name in skip),
        missing=tuple(name for name in layers if name in skip and name not in arrays),
        unexpected=tuple(name for name in arrays if name not in layers and name not in skip),
    )


def _load_keras(model: keras.Model, layers: Mapping[str, Any], path: Path, skip: Collection[str]) -> Report:
    """Load the file with Keras, which assigns while it reads; restore the former values if it fails."""
    _expect_known(skip, layers)
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            # Keras 3.15 warns about containers of its own that are in no file.
            warnings.filterwarnings("ignore", message="Skipping nested container", category=UserWarning)
            with _weights_file(path, model.count_params()) as file:
                hdf5.look_over(file, model.count_params(), path)
                model.load_weights(file, objects_to_skip=[layers[name] for name in skip])
    except WeightsError:
        raise
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
def _weights_file(path: Path, parameters: int) -> Iterator[Path]:
    """Yield the file under a name that Keras accepts, or the weights in a `.keras`, without the model's description."""
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
        member = archive.getinfo("model.weights.h5")
        # The optimizer may have several values per weight. Keras stores archives; other programs deflate them.
        most = hdf5.allowance(4 * parameters, member.compress_size)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.file_size > most:
            raise UnsafeWeights(
                f"expected weights in {path} that are stored or deflated, at most {hdf5.MOST_EXPANSION} times as large "
                f"as in the file. Received: {member.file_size / 2**20:,.0f} MB from {member.compress_size:,} bytes"
            )
        unpacked = Path(folder, "model.weights.h5")
        with archive.open(member) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)  # at most the size that was checked
        yield unpacked


def _reason(error: Exception) -> str:
    """Return the reason in Keras' message: its sentence about the first layer that failed."""
    return str(error).split("built=True>:\n\n")[-1].split("\n")[0].split(" Target variable:")[0]


def _expect_known(skip: Collection[str], known: Collection[str]) -> None:
    for name in skip:
        if name not in known:
            raise UnfitWeights(
                f"expected skip to name layers of the net. Received: '{name}'.{did_you_mean(name, known)}"
            )


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
