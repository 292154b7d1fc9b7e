"""Damaged and forged files of weights, in a process of their own: one that crashes fails the test that started it.

`python -m tests.nets.weights.fuzz_weights FOLDER` changes good files of every kind and loads them, FUZZ_EXAMPLES times
each.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

import nets
from nets.weights.errors import WeightsError
from nets.weights.loading import load

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
MOST_MB = 300
"""What all of it may take beside the process as it was: the files have a few kilobytes."""

Change = tuple[str, float, bytes]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "remove", "cut", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from(
                [b"\xff" * 8, b"\x00" * 8, b"\xff\xff\xff\x7f", b"\x95" + b"\xff" * 7 + b"\x00", b"R.", b"b."]
            ),
            # What pickles are made of, and counts.
            st.sampled_from(
                [b"cnumpy\ndtype\n", b"}(", b"u.", b"\x8c\x05numpy", b"\x93", b"\x81", b"(t", b"N", b"K\xff"]
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)


def changed(data: bytes, changes: list[Change]) -> bytes:
    for how, where, piece in changes:
        at = int(where * len(data))
        if how == "replace":
            data = data[:at] + piece + data[at + len(piece) :]
        elif how == "insert":
            data = data[:at] + piece + data[at:]
        elif how == "remove":
            data = data[:at] + data[at + len(piece) :]
        elif how == "cut":
            data = data[: max(at, 1)]
        else:
            data = data[:at] + data[max(0, at - 64) : at] * 3 + data[at:]
    return data


def good_files(folder: Path, model: keras.Model) -> dict[str, bytes]:
    """A file of each kind, by name; compressed ones too, whose unpacking is code as well."""
    from keras.src.legacy.saving import legacy_h5_format

    content = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    for protocol in (2, 5):
        with (folder / f"p{protocol}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickle.dump(content, file, protocol=protocol)
    np.save(folder / "saved.npy", np.array(content, dtype=object), allow_pickle=True)
    model.save_weights(folder / "w.weights.h5")
    model.save(folder / "w.keras")
    with h5py.File(folder / "old.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    with h5py.File(folder / "w.weights.h5") as source, h5py.File(folder / "packed.weights.h5", "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and item.shape:
                target.create_dataset(
                    name, data=item[()], compression="gzip", shuffle=True, maxshape=(None,) * item.ndim
                )

        source.visititems(copy)
    with zipfile.ZipFile(folder / "w.keras") as whole, zipfile.ZipFile(folder / "packed.keras", "w", 8) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def fuzz(model: keras.Model, path: Path, data: bytes) -> None:
    """Load the file's data, changed in many ways; after a refusal the net is as it was."""

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(CHANGES)
    def run(changes: list[Change]) -> None:
        path.write_bytes(changed(data, changes))
        kept, words = model.get_weights(), ""
        try:
            load(model, path)
        except WeightsError as refusal:
            words = str(refusal)
        assert "\n" not in words
        assert len(words) < 2000
        if words:
            for old, new in zip(kept, model.get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)
        assert list(path.parent.iterdir()) == [path]

    run()


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    set_hypothesis_home_dir(os.environ["TMPDIR"])
    model = nets.build("tiny")
    files = good_files(folder, model)
    for name in files:
        load(model, folder / name)  # good ones, and everything imported that loading imports
        (folder / name).unlink()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    writable = (str(folder), os.environ["TMPDIR"])

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"):
            os._exit(70)
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes and isinstance(arguments[0], str) and not arguments[0].startswith(writable):
            os.write(2, f"opened {arguments[0]} for writing\n".encode())
            os._exit(71)

    sys.addaudithook(audit)

    for name, data in files.items():
        fuzz(model, folder / name, data)
        (folder / name).unlink()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    assert grown < MOST_MB, f"it took {grown:.0f} MB"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
