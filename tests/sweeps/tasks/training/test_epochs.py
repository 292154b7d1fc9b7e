from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import nets
from sweeps.tasks.pictures import dataset
from sweeps.tasks.pictures import pipeline as pipeline_module
from sweeps.tasks.pictures.pipeline import Pipeline
from sweeps.tasks.training import epochs
from sweeps.tasks.training.classifier import Classifier, Normalisation, NotAClassifierError, normalisation, shape_of
from sweeps.tasks.training.epochs import Checkpoint, DivergedError, Epoch, State
from tests.support.models.healthy import small
from tests.support.picture_data import make_shapes
from tracking.record import Trial

ARGS: dict[str, Any] = {
    "learning_rate": 0.1,
    "schedule": "constant",
    "decay": 0.1,
    "decay_epochs": 2,
    "epochs": 4,
    "optimizer": "adam",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "patience": None,
}
PLAIN = Normalisation("rgb", (127.5, 127.5, 127.5), 1 / 127.5)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[dataset.Example, ...]:
    folder = make_shapes(tmp_path_factory.mktemp("data") / "shapes", 6, ("disc", "ring"))
    return dataset.read(str(folder)).examples


def pipeline(examples: Any, **options: Any) -> Pipeline:
    made = Pipeline(examples, (8, 8), fit="stretch", batch=5, parallel=2, **({"seed": 1} | options))
    made.fill()
    return made


def batches(data: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    return [(images.numpy(), labels.numpy()) for images, labels in data]


def same(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b)
        for pair in zip(batches(one), batches(other), strict=True)
        for a, b in zip(*pair, strict=True)
    )


def test_an_epoch_is_the_same_however_it_is_reached(examples: Any, tmp_path: Path) -> None:
    options = {"margin": 2, "flip": True}
    cached = pipeline(examples, cache=True, **options)
    second = batches(cached.epoch(2))
    assert [len(labels) for _, labels in second] == [5, 5, 2]
    assert second[0][0].shape == (5, 8, 8, 3)
    assert same(cached.epoch(2), cached.epoch(2))
    assert same(cached.epoch(2), pipeline(examples, cache=False, **options).epoch(2))
    on_disk = pipeline(examples, cache=tmp_path / "cache", **options)
    assert same(cached.epoch(2), on_disk.epoch(2))
    assert same(cached.in_order(), on_disk.in_order())
    (tmp_path / "cache").write_bytes(bytes((tmp_path / "cache").stat().st_size))
    assert not any(images.any() for images, _ in batches(on_disk.epoch(3)))  # it is there that pictures come from
    on_disk.close()
    assert not same(cached.epoch(2), cached.epoch(3))
    assert not same(cached.epoch(2), pipeline(examples, cache=True, seed=2, **options).epoch(2))


def test_augmentation_changes_pictures_and_not_their_labels(examples: Any) -> None:
    plain, flipped = pipeline(examples), pipeline(examples, flip=True)
    left, right = batches(plain.epoch(1)), batches(flipped.epoch(1))
    turned = 0
    for (images, labels), (others, same_labels) in zip(left, right, strict=True):
        np.testing.assert_array_equal(labels, same_labels)
        for image, other in zip(images, others, strict=True):
            assert np.array_equal(image, other) or np.array_equal(image[:, ::-1], other)
            turned += not np.array_equal(image, other)
    assert 0 < turned < len(examples)
    assert same(plain.in_order(), flipped.in_order())


def test_validation_takes_the_middle(examples: Any) -> None:
    wide = Pipeline(examples, (12, 12), fit="stretch", batch=12, parallel=1, seed=1)
    (whole, _), *_ = batches(wide.in_order())
    (middle, labels), *_ = batches(pipeline(examples, margin=4).in_order())
    np.testing.assert_array_equal(middle, whole[:5, 2:10, 2:10])
    assert labels.tolist() == [example.label for example in examples[:5]]


def test_unreadable_pictures_are_left_out(examples: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(examples[0].path.read_bytes()[:900])
    mixed = (examples[0], dataset.Example(bad, 1), *examples[1:])
    for cache in (True, False):
        data = pipeline(mixed, cache=cache)
        assert list(data.unreadable) == [1]
        assert "truncated" in data.unreadable[1]
        assert len(data) == len(examples)
        assert data.examples == list(examples)
        assert sum(len(labels) for _, labels in batches(data.epoch(1))) == len(examples)
        assert same(data.in_order(), pipeline(examples).in_order())


def test_a_picture_that_is_lost_later_is_an_error(examples: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(examples[0].path.read_bytes())
    data = pipeline((dataset.Example(path, 0), *examples))
    path.unlink()
    with pytest.raises(tf.errors.OpError, match="No such file"):
        batches(data.epoch(1))


def test_an_epochs_order_is_that_of_earlier_versions(examples: Any) -> None:
    """Figures of one seed stay comparable."""
    seed = pipeline_module._seed(1, 2)
    places = tf.data.Dataset.range(len(examples)).shuffle(len(examples), seed, reshuffle_each_iteration=False)
    expected = [examples[place].label for place in places.as_numpy_iterator()]
    found = np.concatenate([labels for _, labels in batches(pipeline(examples, cache=True).epoch(2))])
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("step", [0.1, 0.1, 0.01, 0.01]),
        ("cosine", [0.1, 0.085355, 0.05, 0.014645]),
    ],
)
def test_schedules(schedule: str, rates: list[float]) -> None:
    found = [epochs.learning_rate(ARGS | {"schedule": schedule}, epoch) for epoch in (1, 2, 3, 4)]
    assert found == pytest.approx(rates, rel=1e-4)


def model(args: dict[str, Any] = ARGS, first: keras.layers.Layer | None = None) -> Classifier:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()((first or keras.layers.Flatten())(inputs))
    x = keras.layers.Dropout(0.3)(keras.layers.Dense(8, activation="relu", name="hidden")(x))
    made = Classifier(keras.Model(inputs, keras.layers.Dense(2, name="logits")(x)), PLAIN)
    made.compile(
        optimizer=epochs.optimizer(args),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    made.optimizer.build(made.trainable_variables)
    return made


def trained(examples: Any, folder: Path, args: dict[str, Any], stop_after: int | None = None) -> State:
    folder.mkdir(exist_ok=True)
    made = model(args)
    checkpoint = Checkpoint(folder, made)
    state = checkpoint.restore("data")

    def progress(state: State) -> None:
        if len(state.history) == stop_after:
            raise KeyboardInterrupt

    data = pipeline(examples, cache=True, flip=True)
    try:
        epochs.train(made, data, pipeline(examples, cache=True), args, checkpoint, state, progress)
    except KeyboardInterrupt:
        return state
    checkpoint.restore_best(state)
    assert epochs.evaluate(made, data)["loss"] == pytest.approx(
        epochs.evaluate(made, pipeline(examples, cache=True))["loss"], rel=1e-5
    )
    return state


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_training_ends_like_an_undisturbed_one(examples: Any, tmp_path: Path, optimizer: str) -> None:
    args = ARGS | {"optimizer": optimizer, "learning_rate": 0.01, "schedule": "cosine", "weight_decay": 0.001}
    whole = trained(examples, tmp_path / "whole", args)
    trained(examples, tmp_path / "parts", args, stop_after=2)
    assert len(list((tmp_path / "parts").glob("epoch-*.npz"))) == 1
    parts = trained(examples, tmp_path / "parts", args)
    assert [epoch.number for epoch in parts.history] == [1, 2, 3, 4]
    assert [path.name for path in (tmp_path / "parts").glob("best-*")] == [f"best-{parts.best.number}.npz"]
    timing = ("train/images_per_s",)
    for key, curve in whole.curves().items():
        if key not in timing:
            assert dict(parts.curves()[key]) == pytest.approx(dict(curve), rel=1e-6), key


def test_a_checkpoint_of_other_data_is_not_used(examples: Any, tmp_path: Path, capsys: Any) -> None:
    trained(examples, tmp_path / "a", ARGS | {"epochs": 1})
    assert Checkpoint(tmp_path / "a", model()).restore("other data").history == []
    assert "training starts again" in capsys.readouterr().out


def test_layers_that_are_not_trained_are_not_in_the_checkpoint(tmp_path: Path) -> None:
    made = model()
    made.net.get_layer("hidden").trainable = False
    made.optimizer = epochs.optimizer(ARGS)
    made.optimizer.build(made.trainable_variables)
    state = State("data", [EPOCH])
    Checkpoint(tmp_path, made).save(state)
    with np.load(tmp_path / "best-1.npz") as saved:
        shapes = [saved[name].shape for name in saved.files]
    assert (192, 8) not in shapes
    assert (8, 2) in shapes


EPOCH = Epoch(1, 0.5, 0.9, 0.6, 0.8, 0.1, 10.0, 1.0, 2.0)


def test_the_best_epochs_variables_outlive_a_process_killed_between_its_files(tmp_path: Path) -> None:
    def with_bias(value: float) -> Classifier:
        made.net.get_layer("logits").bias.assign([value, value])
        return made

    made = model()
    state = State("data", [EPOCH])
    Checkpoint(tmp_path, with_bias(1.0)).save(state)
    (tmp_path / "state.json.part").mkdir()  # the second epoch is better, and its process ends before the state is there
    state.history.append(replace(EPOCH, number=2, val_accuracy=0.9))
    with pytest.raises(IsADirectoryError):
        Checkpoint(tmp_path, with_bias(2.0)).save(state)
    (tmp_path / "state.json.part").rmdir()
    again = Checkpoint(tmp_path, with_bias(0.0))
    state = again.restore("data")
    assert made.net.get_layer("logits").bias.numpy().tolist() == [1, 1]
    state.history.append(replace(EPOCH, number=2, val_accuracy=0.7))  # as it may come out on a GPU
    with_bias(3.0)
    again.save(state)
    again.restore_best(state)
    assert made.net.get_layer("logits").bias.numpy().tolist() == [1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1.npz", "epoch-2.npz", "state.json"]


TRACE_S = 1000.0


class Clock:
    """One second passes from look to look, and `TRACE_S` while a net is traced."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


class SlowToTrace(keras.layers.Flatten):  # type: ignore[misc]
    clock: Clock

    def call(self, x: Any) -> Any:
        self.clock.now += TRACE_S
        return super().call(x)


def test_steps_that_compile_the_net_are_not_in_its_rates(
    examples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SlowToTrace.clock = Clock()
    monkeypatch.setattr(epochs, "time", clock)
    made = model(first=SlowToTrace())
    built = clock.now
    state = State("data")
    epochs.train(
        made, pipeline(examples), pipeline(examples), ARGS | {"epochs": 2}, Checkpoint(tmp_path, made), state,
        lambda _: None,
    )  # fmt: skip
    assert clock.now > built + 2 * TRACE_S  # batches of five and of two
    first, second = state.history
    assert first.warm
    assert second.warm
    assert 0 < first.waited_s + first.stepped_s < TRACE_S
    assert first.images_per_s == pytest.approx(5 / (first.waited_s + first.stepped_s))
    assert 0 < second.waited_s + second.stepped_s < TRACE_S
    assert second.images_per_s == pytest.approx(12 / (second.waited_s + second.stepped_s))
    alone = pipeline(examples[:4])
    state = State("more")
    epochs.train(made, alone, alone, ARGS | {"epochs": 2}, Checkpoint(tmp_path, made), state, lambda _: None)
    assert [epoch.warm for epoch in state.history] == [False, True]


def test_early_stopping_and_the_best_epoch() -> None:
    losses = [0.6, 0.5, 0.5, 0.7, 0.4]
    history = [Epoch(i, 0.5, 0.9, loss, 0.8, 0.1, 10.0, 1.0, 2.0) for i, loss in enumerate(losses, start=1)]
    assert State("data", history[:4]).best.number == 2
    assert State("data", history).best.number == 5
    assert [epochs._patience_over(State("d", history[:n]), 2) for n in range(6)] == [False] * 4 + [True, False]
    assert not epochs._patience_over(State("d", history[:4]), None)


def test_divergence_is_reported_with_its_place(examples: Any, tmp_path: Path) -> None:
    args = ARGS | {"optimizer": "sgd", "learning_rate": 1e25}
    with pytest.raises(DivergedError, match=r"loss became (nan|inf) in epoch 1, step \d, at learning rate 1e\+25"):
        trained(examples, tmp_path / "a", args)


def test_normalisation_follows_the_weights_and_the_options() -> None:
    open_ = {"channels": None, "mean": None, "scale": None}
    trial = Trial(model="alexnet", batch=1, task="classify", task_args=open_, weights="bvlc.npy")
    assert normalisation(trial) == Normalisation("bgr", (104.0, 117.0, 124.0), 1.0)
    assert normalisation(Trial(model="alexnet", batch=1, task_args=open_)) == PLAIN
    off = {"channels": "bgr", "mean": [0, 0, 0], "scale": 1.0}
    assert normalisation(Trial(model="alexnet", batch=1, task_args=off)) == Normalisation("bgr", (0, 0, 0), 1.0)


def test_the_net_is_given_what_its_weights_expect() -> None:
    inputs = keras.Input((2, 2, 3))
    net = keras.Model(inputs, keras.layers.Flatten()(inputs))
    made = Classifier(net, Normalisation("bgr", (1.0, 2.0, 3.0), 0.5))
    image = np.array([[[[10, 20, 30]] * 2] * 2], np.uint8)
    np.testing.assert_allclose(made(image).numpy()[0, :3], [(30 - 1) / 2, (20 - 2) / 2, (10 - 3) / 2])


def test_auxiliary_heads_count_in_the_loss() -> None:
    net = nets.build("inception_v3", num_classes=2, image_size=75)
    made = Classifier(net, PLAIN)
    assert (made.size, made.classes) == ((75, 75), 2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
    logits, labels = tf.constant([[2.0, 0.0]]), tf.constant([0])
    alone, with_one = (float(made.compute_loss(None, labels, pred)) for pred in (logits, [logits, logits]))
    assert with_one == pytest.approx(1.4 * alone)


def test_nets_that_are_no_classifiers() -> None:
    assert shape_of(small(3)) == ((8, 8), 3)
    with pytest.raises(NotAClassifierError, match="give logits"):
        shape_of(nets.build("alexnet_conv"))
