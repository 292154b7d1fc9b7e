"""Reads weights in the HDF5 layout of Keras before version 3, which keras.applications' own files use.

Each layer has a group, whose attribute `weight_names` lists its arrays in order; a nested model is one group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

_MAGIC = b"\x89HDF\r\n\x1a\n"

Arrays = Mapping[str, Sequence[Any]]
"""By layer: arrays of NumPy or of an open file, which have a `shape` and are read with `[()]`."""


def is_hdf5(path: Path) -> bool:
    """Whether the file's content is HDF5, whatever its name."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def arrays(file: h5py.File) -> Arrays | None:
    """Return each layer's arrays, unread and in the file's order; None for a file of another layout.

    Raises OSError, KeyError or ValueError for a file that is damaged.
    """
    group = file.get("model_weights", file)  # the file of a whole model has its weights there
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
    """Return the arrays under the net's own layer names, where the file's names differ but its shapes fit in order.

    Unnamed layers are numbered in the order of their creation in a process, so `conv2d_7` varies. Where the names are
    known, or the shapes of the layers that are not in `skip` do not fit, the arrays are returned unchanged.
    """
    wanted = [name for name in layers if name not in skip]
    if set(wanted) <= set(arrays):
        return arrays
    for names in (list(layers), wanted):  # the file may have skipped layers, too, or not
        if len(names) == len(arrays) and all(
            name in skip or [tuple(weight.shape) for weight in layers[name].weights] == [a.shape for a in held]
            for name, held in zip(names, arrays.values(), strict=True)
        ):
            return dict(zip(names, arrays.values(), strict=True))
    return arrays


def _owner(layer: str, weight: str) -> str:
    """Return the layer of a weight: `fc1` for `fc1/kernel:0`, `conv1` for `conv1/kernel:0` within a model `trunk`."""
    parent = weight.rpartition("/")[0]
    return layer if not parent or f"/{parent}".endswith(f"/{layer}") else parent.rpartition("/")[2]


def _names(group: Any, attribute: str) -> list[str] | None:
    """Return a list of names, which is split over several attributes where it is too long for one."""
    if attribute in group.attrs:
        names = list(group.attrs[attribute])
    elif f"{attribute}0" in group.attrs:
        parts = (f"{attribute}{i}" for i in range(len(group.attrs)))
        names = [name for part in parts if part in group.attrs for name in group.attrs[part]]
    else:
        return None
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
