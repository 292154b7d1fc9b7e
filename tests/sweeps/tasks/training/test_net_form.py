"""What the form of a net reveals: how it scales its input, and whether its output is logits or probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import nets
from sweeps.tasks.training import classifier, net_output
from sweeps.tasks.training.classifier import Classifier, Normalisation, NotAClassifierError, normalisation
from sweeps.tasks.training.net_input import BYTES, UNIT, own_scaling
from tests.support.models.healthy import small
from tests.support.picture_data import task_args
from tracking.record import Trial

PLAIN = Normalisation("rgb", (127.5, 127.5, 127.5), 1 / 127.5)
TRIAL = Trial(model="own", batch=2, task="finetune", task_args=task_args("finetune", data="photos"))
IMAGES = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), np.uint8)


def net(*steps: Any, channels: int = 3) -> keras.Model:
    """Layers and operations one after the other, on pictures of 8 x 8."""
    inputs = x = keras.Input((8, 8, channels))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


def headed(*steps: Any) -> keras.Model:
    return net(*steps, layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3))


class Subclassed(keras.Model):
    """A net of one dense layer between two functions; `call` is all that says what it does."""

    def __init__(self, before: Callable[[Any], Any], after: Callable[[Any, bool], Any]) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.flatten, self.dense = layers.Flatten(), layers.Dense(3)

    def build(self, _shape: Any) -> None:
        self.dense.build((None, 192))

    def call(self, x: Any, training: bool = False) -> Any:
        return self.after(self.dense(self.flatten(self.before(x))), training)


def subclassed(
    before: Callable[[Any], Any] = lambda x: x, after: Callable[[Any, bool], Any] = lambda x, _: x
) -> keras.Model:
    model = Subclassed(before, after)
    model.build((None, 8, 8, 3))
    return model


def handmade(x: Any, _: bool = False) -> Any:
    return ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True)


@tf.function
def sigmoid_within_a_function(x: Any, _: bool = False) -> Any:
    return tf.sigmoid(x)


def dense(**options: Any) -> keras.Model:
    return net(layers.Flatten(), layers.Dense(3, **options))


def nested_softmax() -> keras.Model:
    inputs = keras.Input((192,))
    inner = keras.Model(inputs, layers.Softmax()(layers.Dense(3)(inputs)))
    return net(layers.Flatten(), inner, layers.Activation("linear"))


OUTPUTS = {
    "logits": [
        lambda: net(layers.Conv2D(3, 1, activation="relu"), layers.GlobalAveragePooling2D()),
        dense,
        lambda: dense(kernel_initializer="zeros"),
        lambda: dense(activation="log_softmax"),
        subclassed,
    ],
    "probabilities": [
        lambda: dense(activation="softmax"),
        nested_softmax,
        lambda: net(layers.Flatten(), layers.Dense(3), ops.softmax),
        lambda: subclassed(after=handmade),
        lambda: subclassed(after=lambda x, _: tf.nn.softmax(x)),
    ],
    "independent": [
        lambda: dense(activation="sigmoid"),
        lambda: subclassed(after=sigmoid_within_a_function),
        lambda: subclassed(after=lambda x, _: 1 / (1 + ops.exp(-x))),
        lambda: subclassed(after=lambda x, _: 1 / (1 + ops.exp(-ops.abs(x)))),  # never below one half
        lambda: dense(activation="hard_sigmoid"),
    ],
}


@pytest.mark.parametrize(("kind", "make"), [(kind, make) for kind, makers in OUTPUTS.items() for make in makers])
def test_outputs_are_served_as_the_net_means_them(kind: str, make: Callable[[], keras.Model]) -> None:
    model = Classifier(make(), PLAIN)
    assert (model.outputs_are, model.answers_are) == ((kind,), kind)
    own = model(IMAGES, training=False).numpy()
    expected = keras.ops.softmax(own).numpy() if kind == "logits" else own
    np.testing.assert_allclose(model.probabilities(IMAGES), expected, atol=1e-6)
    labels = np.array([0, 1, 2, 0])
    if kind == "independent":
        hot = np.eye(3)[labels]
        loss = -np.mean(hot * np.log(own) + (1 - hot) * np.log(1 - own))
    else:
        loss = -np.log(expected[np.arange(4), labels]).mean()
    for training in (True, False):
        assert float(model.compute_loss(None, labels, own, training=training)) == pytest.approx(loss, rel=1e-4)
    model.compile(optimizer="sgd", loss=model.cross_entropy(), metrics=["accuracy"])
    assert model.test_on_batch(IMAGES, labels, return_dict=True)["loss"] == pytest.approx(loss, rel=1e-4)
    assert np.isfinite(model.train_on_batch(IMAGES, labels, return_dict=True)["loss"])


def test_a_softmax_in_inference_alone() -> None:
    model = Classifier(subclassed(after=lambda x, training: x if training else ops.softmax(x)), PLAIN)
    assert (model.outputs_are, model.answers_are) == (("logits",), "probabilities")
    np.testing.assert_allclose(model.probabilities(IMAGES), model(IMAGES).numpy(), atol=1e-6)
    labels = np.array([0, 1, 2, 0])
    losses = [float(model.compute_loss(None, labels, model(IMAGES, training=t), training=t)) for t in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_auxiliary_heads_are_each_what_they_are() -> None:
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(inputs)
    two = keras.Model(inputs, [layers.Dense(3)(x), layers.Dense(3, activation="softmax")(x)])
    model = Classifier(two, PLAIN)
    assert model.outputs_are == ("logits", "probabilities")
    logits, shares, labels = np.array([[2.0, 0.0, 0.0]]), np.array([[0.5, 0.25, 0.25]]), np.array([0])
    first = float(net_output.loss("logits")(labels, logits))
    both = float(model.compute_loss(None, labels, [logits, shares]))
    assert both == pytest.approx(first + classifier.AUXILIARY_WEIGHT * np.log(2), rel=1e-5)
    assert model.probabilities(IMAGES).shape == (4, 3)
    main, auxiliary = two.outputs
    named = Classifier(keras.Model(inputs, {"main": auxiliary, "auxiliary": main}), PLAIN)
    assert named.outputs_are == ("probabilities", "logits")
    np.testing.assert_allclose(named.probabilities(IMAGES), two(PLAIN(IMAGES))[1], atol=1e-6)
    assert float(named.compute_loss(None, labels, {"main": shares, "auxiliary": logits})) == pytest.approx(
        np.log(2) + classifier.AUXILIARY_WEIGHT * first, rel=1e-5
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_probabilities_of_16_bits_are_seen(policy: str) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        assert Classifier(subclassed(after=handmade), PLAIN).answers_are == "probabilities"
    finally:
        keras.config.set_dtype_policy(before)


IMAGENET = {"mean": [123.0, 117.0, 104.0], "variance": [58.0**2] * 3}
SCALINGS: list[tuple[Callable[[], keras.Model], Any, float | None]] = [
    (lambda: headed(), None, 1),
    (lambda: headed(layers.BatchNormalization()), None, 1),
    (lambda: headed(layers.Rescaling(1 / 255)), BYTES, 1 / 255),
    (lambda: headed(layers.Rescaling(1 / 127.5, -1)), BYTES, 1 / 127.5),
    (lambda: headed(layers.Normalization(**IMAGENET), layers.ZeroPadding2D(2)), BYTES, 1 / 58),
    (lambda: headed(layers.Lambda(lambda x: x[..., ::-1] - ops.convert_to_tensor([104.0, 117.0, 123.0]))), BYTES, 1),
    (lambda: headed(lambda x: x / 255), BYTES, 1 / 255),
    (lambda: headed(layers.Resizing(6, 6), layers.MaxPooling2D(), lambda x: x / 255.0), BYTES, 1 / 255),
    (lambda: headed(lambda x: 1 - x / 255), BYTES, -1 / 255),
    (lambda: headed(lambda x: (x - 5) / 8), BYTES, 1 / 8),
    (lambda: headed(lambda x: (x - 230) / 10), BYTES, 1 / 10),
    (lambda: headed(lambda x: 255 * x), UNIT, 255),
    (lambda: headed(lambda x: 127.5 * x + 127.5), None, 127.5),
    (lambda: headed(lambda x: x / 2 + 0.5), None, 1 / 2),
    (lambda: subclassed(before=lambda x: x / 127.5 - 1), BYTES, 1 / 127.5),
    (lambda: headed(lambda x: 2 * x - 1), UNIT, 2),
    (lambda: headed(lambda x: x - 0.5), UNIT, 1),
    (lambda: headed(layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.229**2] * 3)), UNIT, 1 / 0.229),
    (lambda: nets.build("EfficientNetB0", image_size=32, num_classes=2), BYTES, 1 / 255),
    (lambda: keras.applications.MobileNetV3Small(weights=None, classes=2, input_shape=(32, 32, 3)), BYTES, 1 / 127.5),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expects", "factor"), SCALINGS)
def test_a_nets_own_scaling_is_seen(make: Callable[[], keras.Model], expects: Any, factor: float | None) -> None:
    found = own_scaling(make())
    assert found is not None
    assert found.factor == pytest.approx(factor)
    assert found.expects == expects


@pytest.mark.parametrize(
    ("steps", "expects"),
    [
        ([layers.RandomBrightness(0.2)], BYTES),
        ([layers.RandomFlip(), layers.RandomBrightness(0.2, value_range=(0, 1))], UNIT),
        ([layers.RandomBrightness(0.2, value_range=(-1, 1))], None),
        ([layers.Rescaling(1 / 255), layers.RandomBrightness(0.2, value_range=(0, 1))], BYTES),
        ([layers.RandomFlip(), layers.RandomContrast(0.2)], BYTES),  # it cuts values off, too
        ([layers.RandomFlip(), layers.RandomRotation(0.2)], None),
    ],
)
def test_augmentation_gets_the_range_that_it_keeps_values_in(steps: list[Any], expects: Any) -> None:
    found = own_scaling(headed(*steps))
    assert found is not None
    assert found.expects == expects


@pytest.mark.parametrize("step", [lambda x: ops.clip(x, 0, 1), lambda x: ops.sqrt(x / 255)])
def test_preprocessing_that_is_no_scaling_is_warned_of(step: Any) -> None:
    model = classifier.of_trial(headed(step), TRIAL)
    assert any("warning: the net's own preprocessing" in line for line in model.remarks())
    given = replace(TRIAL, task_args=task_args("finetune", data="photos", mean=[0.0, 0.0, 0.0], scale=1 / 255))
    assert not any("warning" in line for line in classifier.of_trial(headed(step), given).remarks())


def test_a_rescaling_behind_a_trained_layer_is_warned_of() -> None:
    late = net(layers.Conv2D(4, 1), layers.Rescaling(1 / 255, name="late"), layers.Flatten(), layers.Dense(3))
    assert any(line.startswith("warning: late scales") for line in classifier.of_trial(late, TRIAL).remarks())
    plain = replace(TRIAL, task_args=task_args("finetune", data="photos", mean=[0.0, 0.0, 0.0], scale=1.0))
    assert not any("warning" in line for line in classifier.of_trial(late, plain).remarks())


def test_what_standardises_each_picture_is_no_scaling() -> None:
    assert own_scaling(headed(layers.Lambda(tf.image.per_image_standardization))) is None
    assert own_scaling(net(layers.Flatten())) is None


class Spy(layers.Layer):
    """Keeps what it receives."""

    seen: Any = None

    def call(self, x: Any) -> Any:
        if isinstance(x, tf.Tensor) and hasattr(x, "numpy"):
            self.seen = x.numpy()
        return x


@pytest.mark.parametrize(
    ("first", "low", "high"),
    [(layers.Rescaling(1 / 255), 0, 1), (layers.Rescaling(1 / 127.5, -1), -1, 1), (layers.Rescaling(2.0, -1), -1, 1)],
)
def test_the_layer_after_the_rescaling_gets_what_it_is_made_for(first: Any, low: float, high: float) -> None:
    spy = Spy()
    model = classifier.of_trial(headed(first, spy), TRIAL)
    model(np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 255)]))
    assert spy.seen[0].min() == spy.seen[0].max() == pytest.approx(low)
    assert spy.seen[1].min() == spy.seen[1].max() == pytest.approx(high)


@pytest.mark.parametrize(
    ("given", "doubtful"),
    [
        ({}, False),
        ({"scale": 1.0}, False),
        ({"scale": 1 / 255}, True),
        ({"mean": [127.5, 127.5, 127.5], "scale": 1 / 127.5}, True),
    ],
)
def test_the_users_scaling_stays_with_a_warning(
    capsys: pytest.CaptureFixture[str], given: dict[str, Any], doubtful: bool
) -> None:
    trial = replace(TRIAL, task_args=task_args("finetune", data="photos", **given))
    model = classifier.of_trial(headed(layers.Rescaling(1 / 255)), trial)
    assert model.form.scale == given.get("scale", 1.0)
    assert ("warning: pictures are scaled twice" in capsys.readouterr().out) == doubtful


def test_a_mean_is_not_taken_off_twice() -> None:
    taking_off = headed(layers.Lambda(lambda x: x - 110.0))
    bvlc = replace(TRIAL, weights="bvlc.npy")
    assert normalisation(bvlc, own_scaling(taking_off)) == Normalisation("bgr", (0.0, 0.0, 0.0), 1.0)
    trial = replace(bvlc, task_args=task_args("finetune", data="photos", mean=[104.0, 117.0, 124.0], scale=1.0))
    assert any("scaled twice" in line for line in classifier.of_trial(taking_off, trial).remarks())


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("VGG16", "vgg16"),
        ("ResNet101", "resnet"),
        ("ResNet50V2", "resnet_v2"),
        ("DenseNet121", "densenet"),
        ("MobileNetV2", "mobilenet_v2"),
        ("Xception", "xception"),
    ],
)
def test_published_weights_get_the_input_that_they_were_trained_on(name: str, module: str) -> None:
    expected = getattr(keras.applications, module).preprocess_input(IMAGES.astype(np.float32))
    published = normalisation(replace(TRIAL, model=name, weights=f"{name.lower()}_weights_tf_dim_ordering.h5"))
    np.testing.assert_allclose(published(IMAGES), expected, atol=1e-4)
    assert normalisation(replace(TRIAL, model=name, weights="mine.weights.h5")) == PLAIN


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ConvNeXtTiny"])
def test_published_weights_of_nets_whose_own_scaling_is_left_out(name: str) -> None:
    whole = getattr(keras.applications, name)(weights=None, classes=2, input_shape=(32, 32, 3))
    with_it, without = own_scaling(whole), own_scaling(nets.build(name, image_size=32, num_classes=2))
    assert with_it is not None
    assert without is not None
    assert without.expects is None
    published = normalisation(replace(TRIAL, model=name, weights="published.h5"))
    grey = np.full((1, 1, 1, 3), 200, np.uint8)
    expected = with_it.factor * 200 + with_it.offset
    assert np.median(published(grey)) == pytest.approx(expected, rel=0.02)


def test_a_net_of_one_channel_gets_grey() -> None:
    spy = Spy()
    model = classifier.of_trial(net(spy, layers.Flatten(), layers.Dense(3), channels=1), TRIAL)
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0], images[1] = 200, (255, 0, 0)
    model(images)
    assert spy.seen.shape == (2, 8, 8, 1)
    np.testing.assert_allclose(spy.seen[:, 0, 0, 0], [200 / 127.5 - 1, 0.299 * 255 / 127.5 - 1], rtol=1e-5)


def test_one_sigmoid_for_two_classes_is_refused() -> None:
    with pytest.raises(
        NotAClassifierError, match=r"Received: one output; .* has to end in two outputs, e.g. Dense\(2\)"
    ):
        classifier.of_trial(net(layers.Flatten(), layers.Dense(1, activation="sigmoid")), TRIAL)


def test_a_callable_gets_the_number_of_classes_if_it_takes_it() -> None:
    own = replace(TRIAL, target="tests.support.models.healthy.classes")
    assert classifier.with_classes(own, 7).model_args == {"num_classes": 7}
    given = replace(own, model_args={"num_classes": 3})
    assert classifier.with_classes(given, 7) == given
    other = replace(TRIAL, target=f"{small.__module__}.small")
    assert classifier.with_classes(other, 7) == other
