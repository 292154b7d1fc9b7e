"""Weights in the HDF5 layout that Keras had before version 3, in which keras.applications' own files are published.

Each layer has a group, whose attribute `weight_names` lists its arrays in order; a nested model is one group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

_MAGIC = b"\x89HDF\r\n\x1a\n"

Arrays = Mapping[str, Sequence[Any]]
"""By layer: arrays of NumPy, or of an open file, which have a `shape` and are read by `[()]`."""


def is_hdf5(path: Path) -> bool:
    """Whether the file's content is HDF5, whatever its name."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def arrays(file: h5py.File) -> Arrays | None:
    """The arrays of each layer that has some, in the file's order, not read yet; None for a file of another layout.

    Raises OSError, KeyError or ValueError for a file that is damaged.
    """
    group = file.get("model_weights", file)  # a whole model's file has its weights there
    names = _names(group, "layer_names")
    if names is None:
        return None
    layers: dict[str, list[Any]] = {}
    for layer in names:
        for weight in _names(group[layer], "weight_names") or []:
            values = group[layer][weight]
            if not isinstance(values, h5py.Dataset) or values.dtype.kind not in "fiu":
                raise ValueError(f"expected arrays of numbers. Received: {weight} of {layer}")
            layers.setdefault(_owner(layer, weight), []).append(values)
    return layers


def by_order(layers: Mapping[str, Any], arrays: Arrays, skip: Collection[str] = ()) -> Arrays:
    """The arrays under the names of the net's layers, where the file's are others but fit one by one in their order.

    Layers without a name of their own are numbered as they come in a process: `conv2d_7` is not the same everywhere.
    Where the names are known, or the shapes of the layers that are not in `skip` do not fit, all is returned as it is.
    """
    wanted = [name for name in layers if name not in skip]
    if set(wanted) <= set(arrays):
        return arrays
    for names in (list(layers), wanted):  # the file has skipped layers, too, or has not
        if len(names) == len(arrays) and all(
            name in skip or [tuple(weight.shape) for weight in layers[name].weights] == [a.shape for a in held]
            for name, held in zip(names, arrays.values(), strict=True)
        ):
            return dict(zip(names, arrays.values(), strict=True))
    return arrays


def _owner(layer: str, weight: str) -> str:
    """The layer that the weight is of: `fc1` of `fc1/kernel:0`, `conv1` of `conv1/kernel:0` within a model `trunk`."""
    parent = weight.rpartition("/")[0]
    return layer if not parent or f"/{parent}".endswith(f"/{layer}") else parent.rpartition("/")[2]


def _names(group: Any, attribute: str) -> list[str] | None:
    """A list of names, which is in several attributes where it is too long for one."""
    if attribute in group.attrs:
        found = list(group.attrs[attribute])
    elif f"{attribute}0" in group.attrs:
        parts = (f"{attribute}{i}" for i in range(len(group.attrs)))
        found = [name for part in parts if part in group.attrs for name in group.attrs[part]]
    else:
        return None
    return [name.decode() if isinstance(name, bytes) else str(name) for name in found]
