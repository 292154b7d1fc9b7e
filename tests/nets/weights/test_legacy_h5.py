from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

import nets
from nets.weights.errors import UnfitWeights, UnreadableWeights
from nets.weights.loading import load
from tests.nets.weights.test_loading import KERAS_SAVES, expect_refused

pytestmark = KERAS_SAVES


def saved(path: Path, model: keras.Model) -> Path:
    """The model's weights as Keras 2 saved them."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def expect_same(one: keras.Model, other: keras.Model) -> None:
    for mine, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_files_of_keras_applications_fit_by_the_names_of_layers(tmp_path: Path) -> None:
    """VGG16's own file, and that without its head, whose layers are skipped then."""
    model = nets.build("VGG16", image_size=32, num_classes=7)
    whole = saved(tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels.h5", model)
    other = nets.build("VGG16", image_size=32, num_classes=7)
    assert load(other, whole).loaded[:2] == ("block1_conv1", "block1_conv2")
    expect_same(model, other)

    trunk = keras.Model(model.inputs, model.get_layer("block5_pool").output)
    headless = saved(tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", trunk)
    narrow = nets.build("VGG16", image_size=32, num_classes=3)
    expect_refused(narrow, headless, UnfitWeights, "has no weights for fc1, fc2, predictions; skip them")
    report = load(narrow, headless, skip=("fc1", "fc2", "predictions"))
    assert report.missing == ("fc1", "fc2", "predictions")
    np.testing.assert_array_equal(narrow.get_layer("block5_conv3").kernel, model.get_layer("block5_conv3").kernel)


def numbered(classes: int) -> keras.Model:
    """A net whose layers are numbered by Keras."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, use_bias=False)(inputs))
    x = keras.layers.SeparableConv2D(4, 3)(keras.layers.Conv2D(4, 3)(x))
    return keras.Model(inputs, keras.layers.Dense(classes, name="head")(keras.layers.Flatten()(x)))


def test_layers_that_are_numbered_otherwise_fit_by_their_order(tmp_path: Path) -> None:
    model, other = numbered(3), numbered(3)
    path = saved(tmp_path / "w.h5", model)
    load(other, path)
    expect_same(model, other)
    narrow = numbered(2)
    load(narrow, path, skip=("head",))
    for mine, theirs in zip(model.weights[:-2], narrow.weights[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_whole_models_nested_ones_and_the_new_layout_under_any_name(tmp_path: Path) -> None:
    def nested() -> keras.Model:
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, keras.layers.Dense(2, name="head")(nets.build("tiny")(inputs)))

    model = nested()
    model.save(tmp_path / "whole.h5")
    model.save_weights(tmp_path / "new.weights.h5")
    (tmp_path / "new.weights.h5").rename(tmp_path / "new.hdf5")
    for name in ("whole.h5", "new.hdf5"):
        other = nested()
        load(other, tmp_path / name)
        expect_same(model, other)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    model = nets.build("tiny")
    (tmp_path / "w.h5").write_bytes(b"no HDF5")
    expect_refused(model, tmp_path / "w.h5", UnreadableWeights, "is damaged")
    whole = saved(tmp_path / "a.h5", model).read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    expect_refused(model, tmp_path / "half.h5", UnreadableWeights, "is damaged")
    with h5py.File(tmp_path / "words.h5", "w") as file:
        file.attrs["layer_names"] = ["conv1"]
        file.create_group("conv1").attrs["weight_names"] = ["kernel"]
        file["conv1"]["kernel"] = "words"
    expect_refused(model, tmp_path / "words.h5", UnreadableWeights, "expected arrays of numbers")
