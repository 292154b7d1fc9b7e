from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import nets
from nets.weights.errors import UnfitWeights, UnreadableWeights, UnsafeWeights, WeightsError
from nets.weights.loading import Report, load

NAMES = ("conv1", "logits")

KERAS_SAVES = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras 3.15 saves variables in a way that NumPy 2 complains of."""


@pytest.fixture
def model() -> keras.Model:
    return nets.build("tiny")


def arrays(model: keras.Model, seed: int = 0) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return {
        name: [rng.normal(size=weight.shape).astype("float32") for weight in model.get_layer(name).weights]
        for name in NAMES
    }


def save(path: Path, content: Any) -> Path:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def save_pickle(path: Path, pickled: bytes) -> Path:
    """A .npy of one object, whose pickle is given."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(buffer.getvalue() + pickled)
    return path


def expect_refused(model: keras.Model, path: Path, error: type[WeightsError], words: str, **options: Any) -> None:
    before = model.get_weights()
    with pytest.raises(error) as raised:
        load(model, path, **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def expect_loaded(model: keras.Model, content: dict[str, list[np.ndarray]], *names: str) -> None:
    for name in names:
        for array, weight in zip(content[name], model.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(array, weight)


def test_npy(model: keras.Model, tmp_path: Path) -> None:
    content = arrays(model)
    report = load(model, save(tmp_path / "w.npy", content))
    assert report == Report(loaded=NAMES, skipped=(), missing=(), unexpected=())
    expect_loaded(model, content, *NAMES)


def test_skip_keeps_the_nets_own(model: keras.Model, tmp_path: Path) -> None:
    """As for fine-tuning: the last layer has another width in the file, or is not there."""
    content = arrays(model)
    wide = {**content, "logits": [np.zeros((4, 1000), "float32"), np.zeros(1000, "float32")]}
    before = model.get_layer("logits").get_weights()
    for i, (entry, missing) in enumerate([(wide, ()), ({"conv1": content["conv1"]}, ("logits",))]):
        report = load(model, save(tmp_path / f"{i}.npy", entry), skip=("logits",))
        assert report == Report(loaded=("conv1",), skipped=("logits",), missing=missing, unexpected=())
        expect_loaded(model, content, "conv1")
        np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], before[0])


def test_unexpected_layers_are_reported(model: keras.Model, tmp_path: Path) -> None:
    path = save(tmp_path / "w.npy", {**arrays(model), "fc9": [np.zeros(3)]})
    assert load(model, path).unexpected == ("fc9",)
    assert load(model, path, skip=["fc9"]).unexpected == ()


def test_missing_layer(model: keras.Model, tmp_path: Path) -> None:
    content = arrays(model)
    content["logit"] = content.pop("logits")
    expect_refused(
        model, save(tmp_path / "w.npy", content), UnfitWeights, "no weights for logits; skip them or choose another"
    )
    expect_refused(model, tmp_path / "w.npy", UnfitWeights, "Did you mean logit?")


def test_wrong_shapes(model: keras.Model, tmp_path: Path) -> None:
    """The wrong one comes last: nothing before it may have been assigned."""
    content = arrays(model)
    content["logits"][1] = np.zeros(11, "float32")
    path = save(tmp_path / "w.npy", content)
    expect_refused(model, path, UnfitWeights, "expected logits of shapes [(4, 10), (10,)]. Received: [(4, 10), (11,)]")
    content["logits"] = content["logits"][:1]
    expect_refused(model, save(path, content), UnfitWeights, "Received: [(4, 10)]")


def test_unknown_skip(model: keras.Model, tmp_path: Path) -> None:
    path = save(tmp_path / "w.npy", arrays(model))
    expect_refused(model, path, UnfitWeights, "Received: 'logit'. Did you mean logits?", skip=["logit"])


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_pickles_of_either_numpy(model: keras.Model, tmp_path: Path, protocol: int, module: str) -> None:
    content = arrays(model)
    pickled = pickle.dumps(content, protocol=protocol)
    assert b"numpy._core" in pickled
    if protocol >= 4:  # names are strings after their length, and frames count their bytes
        old = module.encode()
        for name in (b".multiarray", b".numeric"):
            pickled = pickled.replace(
                b"\x8c" + bytes([len(b"numpy._core" + name)]) + b"numpy._core" + name,
                b"\x8c" + bytes([len(old + name)]) + old + name,
            )
        position = pickled.index(b"\x95", 2)
        assert position == 2
        shrunk = len(pickle.dumps(content, protocol=protocol)) - len(pickled)
        (frame,) = struct.unpack("<Q", pickled[3:11])
        pickled = pickled[:3] + struct.pack("<Q", frame - shrunk) + pickled[11:]
    else:
        pickled = pickled.replace(b"numpy._core", module.encode())
    load(model, save_pickle(tmp_path / "w.npy", pickled))
    expect_loaded(model, content, *NAMES)


def python2_pickle(content: dict[str, list[np.ndarray]]) -> bytes:
    """What Python 2's pickle (protocol 2) writes: every text and every array's data as a byte string (U, T)."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def array(value: np.ndarray) -> bytes:
        shape = b"(" + b"".join(map(number, value.shape)) + b"t"
        dtype = b"cnumpy\ndtype\n(" + text(b"f4") + number(0) + number(1) + b"tR("
        dtype += number(3) + text(b"<") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR("
        return start + number(1) + shape + dtype + b"\x89" + text(value.tobytes()) + b"tb"

    items = b"".join(
        text(name.encode()) + b"](" + b"".join(map(array, value)) + b"e" for name, value in content.items()
    )
    return b"\x80\x02}(" + items + b"u."


def test_pickles_of_python_2(model: keras.Model, tmp_path: Path) -> None:
    content = arrays(model)
    pickled = python2_pickle(content)
    assert pickle.loads(pickled, encoding="bytes").keys() == {b"conv1", b"logits"}  # as the seed reads it
    load(model, save_pickle(tmp_path / "w.npy", pickled))
    expect_loaded(model, content, *NAMES)


class Command:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("where", ["whole", "value", "array"])
def test_hostile_pickle_runs_nothing(model: keras.Model, tmp_path: Path, protocol: int, where: str) -> None:
    trace = tmp_path / "ran"
    command = Command(os.system, f"touch {trace}")
    content: Any = arrays(model)
    if where == "whole":
        content = command
    elif where == "value":
        content["zzz"] = command
    else:
        content["conv1"][0] = np.array([command], dtype=object)
    path = save_pickle(tmp_path / "w.npy", pickle.dumps(content, protocol=protocol))
    expect_refused(model, path, UnsafeWeights, "one that asks for posix.system")
    assert not trace.exists()
    np.load(path, allow_pickle=True)  # the same file does run the command where it is read with trust
    assert trace.exists()


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (eval, ("1",)),
        (getattr, (np.ndarray, "tofile")),
        (__import__, ("os",)),
        (np.load, ("/dev/null",)),
        (np.fromfile, ("/dev/null",)),
        (np.memmap, ("/dev/null",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_only_arrays_are_admitted(model: keras.Model, tmp_path: Path, function: Any, args: tuple[Any, ...]) -> None:
    path = save_pickle(tmp_path / "w.npy", pickle.dumps({"conv1": Command(function, *args)}))
    expect_refused(model, path, UnsafeWeights, "expected a pickle of arrays only")


def test_what_is_admitted_cannot_be_changed(model: keras.Model, tmp_path: Path) -> None:
    """BUILD with (None, {"function": None}) sets attributes of the object that the pickle holds."""
    pickled = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}X\x08\x00\x00\x00functionNs\x86b."
    expect_refused(model, save_pickle(tmp_path / "w.npy", pickled), UnsafeWeights, "sets function")
    pickled = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x08\x00\x00\x00functionNsb."
    expect_refused(model, save_pickle(tmp_path / "w.npy", pickled), UnreadableWeights, "is damaged")
    load(model, save(tmp_path / "w.npy", arrays(model)))


def test_codecs_other_than_latin1_are_refused(model: keras.Model, tmp_path: Path) -> None:
    pickled = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf_8\x86R."
    expect_refused(model, save_pickle(tmp_path / "w.npy", pickled), UnsafeWeights, "encoding='utf_8'")


def test_truncated_anywhere(model: keras.Model, tmp_path: Path) -> None:
    whole = save(tmp_path / "w.npy", arrays(model)).read_bytes()
    for length in [*range(0, len(whole) - 1, 97), len(whole) - 1]:
        (tmp_path / "w.npy").write_bytes(whole[:length])
        expect_refused(model, tmp_path / "w.npy", UnreadableWeights, "is damaged")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "hold a dictionary of layers. Received: list"),
        ({"conv1": "text"}, "arrays of numbers"),
        ({"conv1": [np.array(["text"])]}, "arrays of numbers"),
        ({"conv1": [np.array([None])]}, "arrays of numbers"),
    ],
)
def test_other_content(model: keras.Model, tmp_path: Path, content: Any, words: str) -> None:
    expect_refused(model, save_pickle(tmp_path / "w.npy", pickle.dumps(content)), UnreadableWeights, words)


def test_files_of_no_use(model: keras.Model, tmp_path: Path) -> None:
    expect_refused(model, tmp_path / "none.npy", UnreadableWeights, "is not a file")
    expect_refused(model, tmp_path, UnreadableWeights, "is not a file")
    (tmp_path / "w.ckpt").touch()
    expect_refused(model, tmp_path / "w.ckpt", UnreadableWeights, "*.npy, *.h5, *.hdf5 or *.keras")
    np.save(tmp_path / "w.npy", np.zeros(3))
    expect_refused(model, tmp_path / "w.npy", UnreadableWeights, "Received: an array of float64")
    for name in ("w.npy", "w.weights.h5", "w.keras"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        expect_refused(model, tmp_path / name, UnreadableWeights, "damaged")


def test_grouped_kernels_of_caffe_fit(tmp_path: Path) -> None:
    """BVLC's shapes, all of AlexNet's; at 227 pixels and 1000 classes as published."""
    shapes: dict[str, list[tuple[int, ...]]] = {
        "conv1": [(11, 11, 3, 96), (96,)],
        "conv2": [(5, 5, 48, 256), (256,)],
        "conv3": [(3, 3, 256, 384), (384,)],
        "conv4": [(3, 3, 192, 384), (384,)],
        "conv5": [(3, 3, 192, 256), (256,)],
        "fc6": [(9216, 4096), (4096,)],
        "fc7": [(4096, 4096), (4096,)],
        "fc8": [(4096, 1000), (1000,)],
    }
    content = {name: [np.full(shape, i, "float32") for shape in pair] for i, (name, pair) in enumerate(shapes.items())}
    model = nets.build("alexnet")
    report = load(model, save(tmp_path / "bvlc_alexnet.npy", content), skip=["fc8"])
    assert report.loaded == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    assert float(model.get_layer("conv4").kernel[0, 0, 0, 0]) == 3


@KERAS_SAVES
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_keras_formats(model: keras.Model, tmp_path: Path, suffix: str) -> None:
    other = nets.build("tiny")
    path = tmp_path / f"w{suffix}"
    (other.save if suffix == ".keras" else other.save_weights)(path)
    assert load(model, path) == Report(loaded=NAMES, skipped=(), missing=(), unexpected=())
    for old, new in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)

    narrow = nets.build("tiny", num_classes=3)
    expect_refused(narrow, path, UnfitWeights, "shape")
    assert load(narrow, path, skip=["logits"]) == Report(("conv1",), ("logits",), (), ())
    np.testing.assert_array_equal(narrow.get_layer("conv1").kernel, other.get_layer("conv1").kernel)
    expect_refused(narrow, path, UnfitWeights, "Did you mean logits?", skip=["logit"])
    path.write_bytes(path.read_bytes()[:2000])
    expect_refused(model, path, WeightsError, "damaged")


@KERAS_SAVES
def test_inception_is_saved_and_read_back(tmp_path: Path) -> None:
    model = nets.build("inception_v3", image_size=75, num_classes=3)
    model.save_weights(tmp_path / "w.weights.h5")
    other = nets.build("inception_v3", image_size=75, num_classes=3)
    report = load(other, tmp_path / "w.weights.h5", skip=["Logits", "AuxLogits.Logits"])
    assert set(report.skipped) == {"Logits", "AuxLogits.Logits"}
    same = [np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True)]
    assert same.count(False) == 2  # the two kernels; biases are zero in both
