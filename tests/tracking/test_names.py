from __future__ import annotations

from tests.support.records import make_result
from tracking.names import metric_word, series_names, sweep_name, trial_names
from tracking.record import Trial
from tracking.schema.device import Device
from tracking.schema.flat import flatten
from tracking.schema.protocols import Adaptive, Classic


def names(*trials: Trial) -> list[str]:
    return list(trial_names(trials).values())


def trial(**fields: object) -> Trial:
    return make_result(**fields).trial  # type: ignore[arg-type]


def test_name_holds_only_what_varies() -> None:
    assert names(trial(batch=4)) == ["vgg16 b=4"]
    assert names(trial(batch=4), trial(batch=8)) == ["vgg16 b=4", "vgg16 b=8"]
    assert names(trial(device="cpu"), trial(device="gpu0")) == ["vgg16 b=4 cpu", "vgg16 b=4 gpu0"]
    assert names(trial(precision="float32", compile="xla"), trial(precision="bfloat16", compile="xla")) == [
        "vgg16 b=4 float32",
        "vgg16 b=4 bfloat16",
    ]
    assert names(trial(repeat=0), trial(repeat=1)) == ["vgg16 b=4 r=0", "vgg16 b=4 r=1"]
    assert names(trial(protocol=Classic()), trial(protocol=Adaptive())) == ["vgg16 b=4 classic", "vgg16 b=4 adaptive"]
    assert names(trial(), trial(model_args={"name": "ResNet50"})) == ["vgg16 b=4", "vgg16 b=4 name=ResNet50"]


def test_protocols_nodes_and_accelerators_are_distinguished() -> None:
    assert names(trial(protocol=Classic(steps=10)), trial(protocol=Classic(steps=20))) == [
        "vgg16 b=4 steps=10",
        "vgg16 b=4 steps=20",
    ]
    gpus = [trial(device=Device(name="gpu", kind="gpu", gpus=1, accelerator=name)) for name in ("A100", "H100")]
    assert names(*gpus) == ["vgg16 b=4 A100", "vgg16 b=4 H100"]
    assert list(series_names(gpus).values()) == ["vgg16/gpu A100", "vgg16/gpu H100"]
    racks = [trial(device=Device(node_labels={"rack": rack})) for rack in ("1", "2")]
    assert list(series_names(racks).values()) == ["vgg16/cpu rack 1", "vgg16/cpu rack 2"]


def steps(**fields: object) -> Trial:
    return trial(passes=("forward", "train_step"), **fields)


def test_optimizers_are_named_with_the_settings_that_differ() -> None:
    assert names(steps(), steps(optimizer={"name": "adam"})) == ["vgg16 b=4 default", "vgg16 b=4 adam"]
    momentum = {"name": "momentum", "momentum": 0.9}
    adam = {"name": "adam", "learning_rate": 0.01}
    assert names(*(steps(optimizer=each) for each in (momentum, adam))) == ["vgg16 b=4 momentum", "vgg16 b=4 adam"]
    rates = [{"name": "adam", "beta_1": 0.9, "learning_rate": rate} for rate in (0.1, 0.2)]
    assert names(*(steps(optimizer=each) for each in rates)) == [
        "vgg16 b=4 learning_rate=0.1",
        "vgg16 b=4 learning_rate=0.2",
    ]
    plain = steps(optimizer={"name": "adam"})
    assert names(plain, steps(optimizer=adam)) == ["vgg16 b=4", "vgg16 b=4 learning_rate=0.01"]
    assert names(trial(), trial(optimizer=adam))[0].startswith("vgg16 b=4 ")  # no pass that the optimizer is about


def test_inputs_are_named_by_the_settings_that_differ() -> None:
    lengths = [trial(model="net", target="mine.net", inputs={"length": length}) for length in (128, 512)]
    assert names(*lengths) == ["net b=4 length=128", "net b=4 length=512"]
    assert list(series_names(lengths).values()) == ["net/cpu length 128", "net/cpu length 512"]
    two = [{"tokens": {"shape": [length], "high": 30000}, "picture": {"shape": [224, 224, 3]}} for length in (64, 128)]
    assert names(*(trial(inputs=each) for each in two)) == ["vgg16 b=4 tokens.shape=64", "vgg16 b=4 tokens.shape=128"]
    shapes = [{"shape": [224, 224, 3]}, {"shape": [299, 299, 3]}]
    assert names(*(trial(inputs=each) for each in shapes)) == ["vgg16 b=4 shape=224x224x3", "vgg16 b=4 shape=299x299x3"]
    batches = [{"_target_": "mine.batch"}, {"_target_": "mine.other"}]
    assert names(*(trial(inputs=each) for each in batches)) == ["vgg16 b=4 mine.batch", "vgg16 b=4 mine.other"]
    assert names(trial(), lengths[0]) == ["vgg16 b=4", "net b=4"]


def test_names_differ_even_where_the_words_do_not() -> None:
    same = names(trial(model_args={"a": "1 b=2"}), trial(model_args={"a": 1, "b": 2}))
    assert len(set(same)) == 2
    assert all(name.startswith("vgg16 b=4 ") for name in same)


def test_series_is_model_and_device_and_what_sets_curves_apart() -> None:
    trials = [trial(batch=batch, repeat=repeat) for batch in (1, 2) for repeat in (0, 1)]
    assert set(series_names(trials).values()) == {"vgg16/cpu"}
    precisions = [trial(precision="float32"), trial(precision="bfloat16"), trial(model="tiny")]
    assert list(series_names(precisions).values()) == ["vgg16/cpu float32", "vgg16/cpu bfloat16", "tiny/cpu"]
    arguments = [trial(model="keras", model_args={"name": name}) for name in ("ResNet50", "VGG/16")]
    assert list(series_names(arguments).values()) == ["keras/cpu name ResNet50", "keras/cpu name VGG-16"]
    cores = [trial(device=Device(name="cpu", cpus=cpus)) for cpus in (1, 2)]
    assert list(series_names(cores).values()) == ["vgg16/cpu 1 core", "vgg16/cpu 2 cores"]


def test_sweep_name_stays_short() -> None:
    assert sweep_name([trial(batch=1), trial(batch=2), trial(model="tiny")]) == "vgg16, tiny b=1,2,4 cpu"
    many = [trial(model=f"m{i}", batch=i + 1, device=f"d{i}") for i in range(20)]
    assert sweep_name(many) == "20 models b=1..20 20 devices"


def test_flatten_and_metric_word() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": "x"}}, "e": None, "f": [1, 2], "g": True}) == {
        "a.b": "1",
        "a.c.d": "x",
        "f": "[1, 2]",
        "g": "true",
    }
    assert metric_word("cpu name=A/B (new)") == "cpu name A-B new"
