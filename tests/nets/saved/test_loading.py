from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import nets
from nets.counting import layers
from nets.errors import InputError, cause
from nets.saved import graphs, loading
from nets.saved.kinds import SavedModelError, label, misfit, misnamed
from tests.support.models import saved

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, while it saves
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")


@pytest.fixture
def bfloat16() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def save(model: keras.Model, path: Path) -> Path:
    if path.suffix:
        model.save(path)
    else:
        model.export(path, verbose=False)
    return path


@pytest.mark.parametrize("name", ["my.keras", "my.h5", "my.hdf5", "my"])
def test_a_saved_model_computes_what_it_did_and_can_be_trained(name: str, tmp_path: Path) -> None:
    model = saved.small()
    path = save(model, tmp_path / name)
    loaded = loading.load(path)
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), atol=1e-6)
    assert loaded.count_params() == model.count_params()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loaded(IMAGES, training=True) ** 2)
    gradients = tape.gradient(total, [weight.value for weight in loaded.trainable_weights])
    assert len(gradients) == len(model.trainable_weights)
    assert None not in gradients
    assert graphs.is_saved_graph(loaded) == (name == "my")


@pytest.mark.parametrize("name", ["my.keras", "my.h5"])
def test_a_compiled_model_stays_compiled(name: str, tmp_path: Path) -> None:
    loaded = loading.load(save(saved.small(compiled=True), tmp_path / name))
    assert loaded.compiled
    assert type(loaded.optimizer).__name__ == "Adam"
    assert type(loaded.optimizer._learning_rate).__name__ == "ExponentialDecay"
    assert not loading.load(save(saved.small(), tmp_path / name)).compiled


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("name", ["my.keras", "my.h5"])
def test_layers_follow_the_precision_that_keras_is_set_to(name: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy("float32")
    path = save(saved.small(compiled=True), tmp_path / name)
    keras.config.set_dtype_policy("mixed_bfloat16")
    loaded = loading.load(path)
    assert {layer.compute_dtype for layer in loaded.layers} == {"bfloat16"}
    assert loaded.inputs[0].dtype == "float32"
    assert {weight.dtype for weight in loaded.trainable_weights} == {"float32"}


@pytest.mark.usefixtures("bfloat16")
def test_layers_that_were_kept_in_float32_stay_there(tmp_path: Path) -> None:
    image = keras.Input((4,))
    x = keras.layers.Dense(3, name="mixed")(image)
    model = keras.Model(image, keras.layers.Softmax(dtype="float32", name="exact")(keras.ops.cast(x, "float32")))
    path = save(model, tmp_path / "my.keras")
    for policy, computes_in in (("mixed_float16", "float16"), ("float32", "float32")):
        keras.config.set_dtype_policy(policy)
        loaded = loading.load(path)
        assert loaded.get_layer("mixed").compute_dtype == computes_in
        assert loaded.get_layer("exact").compute_dtype == "float32"


def test_the_structure_is_known_without_a_weight_read(tmp_path: Path) -> None:
    for name in ("my.keras", "my.h5"):
        build = loading.outline(save(saved.small(compiled=True), tmp_path / name))
        assert build is not None
        with keras.StatelessScope(initialize_variables=False):
            for _ in range(2):
                assert build().count_params() == saved.small().count_params()
    assert loading.outline(save(saved.small(), tmp_path / "my")) is None


def test_nets_of_this_project_and_nested_shared_and_recurrent_layers_load(tmp_path: Path) -> None:
    token = keras.Input((None,), dtype="int32", name="tokens")
    shared = keras.layers.Dense(4, activation="gelu")
    x = keras.layers.Embedding(50, 4)(token)
    x = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True))(shared(shared(x)))
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    inner = keras.Sequential([keras.Input((None, 4)), keras.layers.LayerNormalization(), keras.layers.Dense(3)])
    words = keras.Model({"tokens": token}, {"a": inner(x), "b": keras.ops.sum(x, axis=1) * 2})
    loaded = loading.load(save(words, tmp_path / "words.keras"))
    tokens = {"tokens": np.array([[1, 2, 3]])}
    for key, values in words(tokens).items():
        np.testing.assert_allclose(loaded(tokens)[key], values, atol=1e-6)
    net = nets.build("alexnet_conv", lrn=True)
    assert loading.load(save(net, tmp_path / "net.keras")).count_params() == net.count_params()


def test_a_vocabulary_within_the_archive_is_no_other_file(tmp_path: Path) -> None:
    split = keras.layers.TextVectorization(max_tokens=9)
    split.adapt(["a b c", "d e"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), split, keras.layers.Embedding(9, 2)])
    loaded = loading.load(save(model, tmp_path / "words.keras"))
    text = tf.constant([["a d x"]])
    np.testing.assert_allclose(loaded(text), model(text))


def test_a_saved_graph_has_the_inputs_of_its_signature(tmp_path: Path) -> None:
    one, two = keras.Input((3,), name="one"), keras.Input((None, 2), dtype="int32", name="two")
    total = keras.ops.sum(keras.ops.cast(two, "float32"), axis=(1, 2))
    model = keras.Model([one, two], {"a": keras.layers.Dense(2)(one), "b": total})
    loaded = loading.load(save(model, tmp_path / "pair"))
    assert {each.name: (each.shape, each.dtype) for each in loaded.inputs} == {
        "one": ((None, 3), "float32"),
        "two": ((None, None, 2), "int32"),
    }
    assert {key: tuple(each.shape) for key, each in loaded.output.items()} == {"a": (None, 2), "b": (None,)}


def test_what_tensorflow_and_an_export_archive_save_loads_and_what_has_nothing_to_call_does_not(tmp_path: Path) -> None:
    model = saved.small()
    tf.saved_model.save(model, str(tmp_path / "plain"))
    np.testing.assert_allclose(loading.load(tmp_path / "plain")(IMAGES), model(IMAGES), atol=1e-6)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, [keras.InputSpec(shape=(None, 8, 8, 3), dtype="float32")])
    archive.write_out(str(tmp_path / "archive"), verbose=False)
    assert len(loading.load(tmp_path / "archive").trainable_weights) == len(model.trainable_weights)
    module = tf.Module()
    module.w = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "mute"))
    with pytest.raises(SavedModelError, match=r"an endpoint named serve or serving_default.* Received: none at all"):
        loading.load(tmp_path / "mute")


def test_names_say_what_a_path_is(tmp_path: Path) -> None:
    assert [label(path) for path in ("/a/my.keras", "b/net.v2.h5", "/c/exported", "/c/v1.2")] == [
        *("my", "net.v2", "exported", "v1.2")
    ]
    assert misnamed("/a/my.keras") is None
    assert "set model=NAME model.weights=a.weights.h5" in str(misnamed("a.weights.h5"))
    assert misfit("my.keras", None) is None
    assert misfit("my.keras", "a folder") == "expected a file. Received: a folder."
    assert str(misfit(str(tmp_path), "a folder")).endswith("Received: a folder without saved_model.pb.")
    assert str(misfit("my.pt", None)).endswith("Received: a file with another suffix.")


def test_an_old_file_trains_as_it_was_compiled(tmp_path: Path) -> None:
    """Keras builds the optimizer of such a file for no variables, and does not find the short names that it saves."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile("adam", "mse", metrics=["mae", "accuracy"])
    model.fit(np.zeros((4, 6)), np.ones((4, 2)), verbose=0)
    loaded = loading.load(save(model, tmp_path / "my.h5"))
    assert isinstance(loaded.optimizer, keras.optimizers.Adam)
    before = loaded.get_weights()
    loaded.train_on_batch(np.ones((4, 6)), np.ones((4, 2)))
    assert not np.array_equal(before[0], loaded.get_weights()[0])


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not:UserWarning")
def test_a_quantized_model_loads(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    model.quantize("int8")
    values = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")
    loaded = loading.load(save(model, tmp_path / "my.keras"))
    np.testing.assert_allclose(loaded(values), model(values), rtol=1e-5)


def test_a_recurrent_graph_is_traced_though_it_hides_its_batch(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((10, 4)), keras.layers.LSTM(8), keras.layers.Dense(1)])
    model.export(tmp_path / "my", verbose=False)
    trace = layers.trace(loading.load(tmp_path / "my"), 3)
    assert trace.rows[-1].output_shape == (3, 1)
    assert trace.rows[-1].activation_bytes == 12


def test_a_graph_for_one_batch_says_which(tmp_path: Path) -> None:
    traced = tf.function(lambda x: 2.0 * x, input_signature=[tf.TensorSpec((3, 4), name="x")])
    tf.saved_model.save(tf.Module(), str(tmp_path / "my"), signatures={"serve": traced})
    model = loading.load(tmp_path / "my")
    model(tf.zeros((3, 4)))
    with pytest.raises(InputError, match="expected batch=3, the only one that the SavedModel takes") as caught:
        model(tf.zeros((2, 4)))
    words = cause(caught.value)
    assert words.startswith("Endpoint.call(): expected batch=3")
    assert words.endswith("Received: batch=2")
