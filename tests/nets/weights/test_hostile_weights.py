"""Files of weights that were made to do harm: to run code, to read other files, to fill the memory, to crash."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import nets
from nets.weights.errors import UnfitWeights, UnreadableWeights, UnsafeWeights, WeightsError
from nets.weights.loading import load
from nets.weights.npy import read_npy
from tests.nets.weights.test_loading import KERAS_SAVES, arrays, expect_refused, save_pickle

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def model() -> keras.Model:
    return nets.build("tiny")


class Forged:
    """Pickles as a call with these arguments, and then, if given, a state that is set."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], *state: Any, items: Any = ()) -> None:
        self._reduced, self._items = (function, arguments, *state), items

    def __reduce__(self) -> Any:
        return (*self._reduced, None, None, iter(self._items)) if self._items else self._reduced


def forged_array(shape: Any, dtype: Any, data: Any, by_columns: bool = False) -> Forged:
    reconstruct = np.zeros(1).__reduce__()[0]
    return Forged(reconstruct, (np.ndarray, (0,), b"b"), (1, shape, dtype, by_columns, data))


def forged_dtype(code: str, *state: Any) -> Forged:
    return Forged(np.dtype, (code, False, True), *state)


POINTER = struct.pack("<Q", 0x4141414141414141)
NESTED: Any = ()
for _ in range(60):
    NESTED = (NESTED, NESTED)

PICKLES: dict[str, tuple[Any, type[WeightsError], str]] = {
    # NumPy crashes on all of these where the state is its own to set.
    "numbers that become objects": (
        forged_array((1,), forged_dtype("i8", (3, "<", None, None, None, -1, -1, 63)), POINTER),
        UnsafeWeights,
        "a layout of its own",
    ),
    "objects of another size": (
        forged_array((1,), forged_dtype("O8", (3, "|", None, None, None, 1, 1, 63)), [1]),
        UnsafeWeights,
        "a layout of its own",
    ),
    "objects as bytes": (forged_array((1,), np.dtype(object), POINTER), UnsafeWeights, "as many objects"),
    "fields": (
        forged_array((1,), forged_dtype("f4", (3, "<", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 27)), POINTER),
        UnsafeWeights,
        "a layout of its own",
    ),
    "subarrays": (
        forged_array((1,), forged_dtype("f4", (3, "<", (np.dtype("f4"), (2**40,)), None, None, -1, -1, 0)), POINTER),
        UnsafeWeights,
        "a layout of its own",
    ),
    "metadata": (
        forged_array((1,), forged_dtype("f4", (4, "<", None, None, None, -1, -1, 0, {})), b"0000"),
        UnsafeWeights,
        "a layout of its own",
    ),
    "a type by a description": (
        forged_array((1,), Forged(np.dtype, ([("a", "O")],)), POINTER),
        UnsafeWeights,
        "arrays of a plain type",
    ),
    "text": (forged_array((1,), np.dtype("U4"), b"0" * 16), UnreadableWeights, "arrays of numbers"),
    "dates": (forged_array((1,), np.dtype("M8[s]"), b"0" * 8), UnreadableWeights, "arrays of numbers"),
    # Sizes that the data does not have.
    "little data": (forged_array((10**6,), np.dtype("f4"), b"0000"), UnsafeWeights, "to fill its shape"),
    "no data": (forged_array((10**14,), np.dtype("f4"), b""), UnsafeWeights, "to fill its shape"),
    "a product that overflows": (forged_array((2**40, 2**40), np.dtype("f4"), b""), UnsafeWeights, "to fill its shape"),
    "a negative size": (forged_array((-1,), np.dtype("f4"), b"0000"), UnsafeWeights, "the shape of an array"),
    "a shape of truth values": (forged_array((True,), np.dtype("f4"), b"0000"), UnsafeWeights, "the shape of an array"),
    "a shape of tuples": (forged_array(NESTED, np.dtype("f4"), b"0000"), UnsafeWeights, "the shape of an array"),
    "an array by its constructor": (Forged(np.ndarray, ((2**33,),)), UnsafeWeights, "of its own size"),
    "no state": (Forged(np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b")), UnreadableWeights, "numbers"),
    # What is dear to hash, or not for names.
    "nested names": (
        Forged(np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), items=[(NESTED, 1)]),
        UnsafeWeights,
        "expected names of layers",
    ),
    "a set": ({1, 2}, UnsafeWeights, "expected a pickle of arrays only"),
    "bytes by their number": (Forged(bytearray, (10**12,)), UnsafeWeights, "asks for"),
    "a class": (Forged(object.__new__, (np.dtype,)), UnsafeWeights, "asks for"),
}


@pytest.mark.parametrize("case", PICKLES)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_that_would_crash_numpy(model: keras.Model, tmp_path: Path, case: str, protocol: int) -> None:
    value, error, words = PICKLES[case]
    content = {"conv1": [value]}
    expect_refused(model, save_pickle(tmp_path / "w.npy", pickle.dumps(content, protocol)), error, words)


def test_pickles_that_take_memory(model: keras.Model, tmp_path: Path) -> None:
    """Eight bytes of pickle ask for 32 GB of places, of bytes, and of data that is repeated."""
    place = b"\x80\x04Nr\xff\xff\xff\xff."
    expect_refused(model, save_pickle(tmp_path / "w.npy", place), UnreadableWeights, "dictionary of layers")
    for code in (pickle.BYTEARRAY8, pickle.BINBYTES8, pickle.FRAME):
        size = b"\x80\x05" + code + struct.pack("<Q", 2**35) + b"0."
        expect_refused(model, save_pickle(tmp_path / "w.npy", size), UnreadableWeights, "is damaged")
    repeated = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x01\x00" + b"a" * 2**16 + b"q\x01X\x06\x00\x00\x00latin1q\x02"
    repeated += b"h\x00h\x01h\x02\x86R0" * 10 + b"N."
    # The bytes of an array of nothing are made by a call, which could ask for as many zeros as it likes.
    zeros = b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R."
    expect_refused(model, save_pickle(tmp_path / "w.npy", zeros), UnreadableWeights, "is damaged")
    expect_refused(model, save_pickle(tmp_path / "w.npy", repeated), UnsafeWeights, "more of it than the file holds")
    many = b"\x80\x02" + b"]" * 3_000_000 + b"."
    expect_refused(model, save_pickle(tmp_path / "w.npy", many), UnsafeWeights, "instructions")


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_any_order_are_read_right(tmp_path: Path, protocol: int) -> None:
    """Order of bytes and axes, sizes and kinds: all that a plain array may be."""
    values = np.arange(24, dtype="f8").reshape(2, 3, 4)
    kinds = [values.astype(kind) for kind in (">f4", "<f2", ">i2", "u1", "<i8")]
    orders = [np.asfortranarray(values), values.transpose(1, 0, 2), values.transpose(2, 0, 1), values[:, ::2], values.T]
    content = {
        "a": [*kinds, *orders],
        "b": (np.zeros((0, 3)), np.array(5.0)),
        "c": {"kernel": values},
        7: values,
        "d": np.array([values, None], dtype=object)[:1],
    }
    read = read_npy(save_pickle(tmp_path / "w.npy", pickle.dumps(content, protocol)))
    assert list(read) == ["a", "b", "c", "7", "d"]
    for expected, received in zip([*kinds, *orders], read["a"], strict=True):
        np.testing.assert_array_equal(expected, received)
        assert expected.dtype == received.dtype
    assert [array.shape for array in read["b"]] == [(0, 3), ()]
    for name in "c7d":
        np.testing.assert_array_equal(read[name][0], values)


def hdf5(path: Path, fill: Callable[[h5py.Group], Any], *, legacy: bool) -> Path:
    """A file for the net `tiny` whose conv1 has the kernel that `fill` makes in a group, as `kernel`."""
    with h5py.File(path, "w") as file:
        if legacy:
            file.attrs["layer_names"] = ["conv1", "logits"]
            for layer, shape in (("conv1", (3, 3, 3, 4)), ("logits", (4, 10))):
                group = file.create_group(layer)
                group.attrs["weight_names"] = ["kernel", "bias"]
                group["bias"] = np.zeros(shape[-1], "f4")
                if layer == "logits":
                    group["kernel"] = np.zeros(shape, "f4")
            fill(file["conv1"])
        else:
            fill(file.create_group("layers/conv2d/vars"))
            group = file["layers/conv2d/vars"]
            group.move("kernel", "0")
            group["1"] = np.zeros(4, "f4")
            group = file.create_group("layers/dense/vars")
            group["0"], group["1"] = np.zeros((4, 10), "f4"), np.zeros(10, "f4")
    return path


def secret(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["kernel"] = np.full(tiny_kernel(), 7, "f4")
    return path


def tiny_kernel() -> tuple[int, ...]:
    return tuple(nets.build("tiny").get_layer("conv1").kernel.shape)


def virtual(group: h5py.Group, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=tiny_kernel(), dtype="f4")
    layout[...] = h5py.VirtualSource(str(other), "kernel", shape=tiny_kernel())
    group.create_virtual_dataset("kernel", layout)


def big_chunk(group: h5py.Group) -> None:
    shape = tiny_kernel()
    group.create_dataset(
        "kernel", shape, "f4", maxshape=(None, *shape[1:]), chunks=(2**24, *shape[1:]), compression="gzip"
    )


@pytest.mark.parametrize("legacy", [True, False])
def test_hdf5_that_reads_other_files(model: keras.Model, tmp_path: Path, legacy: bool) -> None:
    other, raw = secret(tmp_path / "secret.h5"), tmp_path / "raw"
    raw.write_bytes(b"\1\2\3\4" * 1000)
    fills: dict[str, Callable[[h5py.Group], Any]] = {
        "link to something else": lambda group: group.__setitem__("kernel", h5py.ExternalLink(str(other), "kernel")),
        "a link to something": lambda group: group.__setitem__("kernel", h5py.SoftLink("/nowhere")),
        "is in another file": lambda group: virtual(group, other),
        "one that is in": lambda group: group.create_dataset(
            "kernel", tiny_kernel(), "f4", external=[(str(raw), 0, 4000)]
        ),
    }
    for words, fill in fills.items():
        path = hdf5(tmp_path / f"w{'.h5' if legacy else '.weights.h5'}", fill, legacy=legacy)
        expect_refused(model, path, UnsafeWeights, words)


@pytest.mark.parametrize("legacy", [True, False])
def test_hdf5_that_is_larger_in_memory(model: keras.Model, tmp_path: Path, legacy: bool) -> None:
    """Never written, compressed, or in a chunk far larger than the array: few bytes of file, gigabytes to read."""
    fills: list[Callable[[h5py.Group], Any]] = [
        lambda group: group.create_dataset("kernel", (2**31,), "f4"),
        lambda group: group.create_dataset("kernel", (2**20, 2**20), "f4", chunks=(64, 64), compression="gzip"),
        big_chunk,
    ]
    for fill in fills:
        path = hdf5(tmp_path / f"w{'.h5' if legacy else '.weights.h5'}", fill, legacy=legacy)
        expect_refused(model, path, UnsafeWeights, "at most 100 times as large as in the file. Received: one of ")


@KERAS_SAVES
def test_archives_that_are_larger_unpacked(model: keras.Model, tmp_path: Path) -> None:
    """A bomb of 100 MB; and weights that are all zero, which deflate as well, and are loaded."""
    path = tmp_path / "w.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(100 * 2**20))
    expect_refused(model, path, UnsafeWeights, "Received: 100 MB from ")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("model.weights.h5", bytes(100))
    expect_refused(model, path, UnsafeWeights, "stored or deflated")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../model.weights.h5", b"elsewhere")
        archive.writestr("config.json", b"[" * 10**6)
    expect_refused(model, path, UnreadableWeights, "no item named")

    zeros = nets.build("tiny")
    zeros.set_weights([0 * weight for weight in zeros.get_weights()])
    zeros.save(tmp_path / "zeros.keras")
    with (
        zipfile.ZipFile(tmp_path / "zeros.keras") as whole,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("model.weights.h5", whole.read("model.weights.h5"))
        archive.writestr("config.json", b"[" * 10**6)  # what describes the model is not looked at
    load(model, path)
    assert not any(weight.any() for weight in model.get_weights())


@KERAS_SAVES
def test_compressed_weights_are_read(model: keras.Model, tmp_path: Path) -> None:
    """As `h5repack` writes them; and a head far larger than the net, which is skipped."""
    content = arrays(model)

    def fill(group: h5py.Group) -> None:
        group.create_dataset("kernel", data=content["conv1"][0], compression="gzip", shuffle=True)

    load(model, hdf5(tmp_path / "w.h5", fill, legacy=True))
    np.testing.assert_array_equal(model.get_layer("conv1").kernel, content["conv1"][0])
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["logits/kernel"]
        file["logits/kernel"] = np.zeros((4, 10**6), "f4")
    load(model, tmp_path / "w.h5", skip=["logits"])
    expect_refused(model, tmp_path / "w.h5", UnfitWeights, "expected logits of shapes")


def test_a_damaged_array_changes_nothing(model: keras.Model, tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        group.create_dataset("kernel", data=arrays(model)["conv1"][0], fletcher32=True, chunks=True)

    path = hdf5(tmp_path / "w.h5", fill, legacy=True)
    piece = arrays(model)["conv1"][0].tobytes()[:16]
    data = path.read_bytes()
    assert piece in data
    path.write_bytes(data.replace(piece, bytes(16)))
    expect_refused(model, path, UnreadableWeights, "is damaged")


def test_a_file_that_cannot_be_opened(tmp_path: Path, model: keras.Model) -> None:
    os.mkfifo(tmp_path / "fifo.npy")
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    for name in ("fifo.npy", "loop.h5", "n" * 300 + ".npy", "/dev/zero", "nul\0.npy"):
        expect_refused(model, tmp_path / name, UnreadableWeights, "not a file")


def test_changed_files_are_loaded_or_refused(tmp_path: Path) -> None:
    """No crash, no other exception, no file written elsewhere, no memory beyond measure."""
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "tests.nets.weights.fuzz_weights", str(work)]
    env = os.environ | {"TMPDIR": str(scratch)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    assert list(work.iterdir()) == []
