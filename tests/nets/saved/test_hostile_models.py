"""Saved models that were made to do harm: to run code, to read other files, to write them, to fill the memory."""

from __future__ import annotations

import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
import tensorflow as tf

from nets.saved import loading
from nets.saved.kinds import SavedModelError
from tests.support.models import saved

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, while it saves
TRUST = "model.trust=true"
EVIL = "evil_module_of_a_test"
"""A module that makes the canary when it is imported."""


def expect_refused(path: Path, canary: Path, *words: str) -> None:
    """Expect both ways into a file to refuse it in a sentence with these words, and to run nothing of it."""
    for enter in (loading.load, loading.outline):
        with pytest.raises(SavedModelError) as caught:
            enter(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: expected ")
        assert "\n" not in text
        for word in words:
            assert word in text
    assert not canary.exists()
    assert EVIL not in sys.modules


@pytest.mark.parametrize("name", ["sly.keras", "sly.h5"])
def test_a_lambda_runs_only_in_a_file_that_is_trusted(name: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / name
    model = saved.with_lambda(canary)
    model.save(path)
    canary.unlink(missing_ok=True)
    expect_refused(path, canary, "in 'sly'", TRUST)
    loading.load(path, trust=True)(tf.zeros((1, 4)))
    assert canary.exists()


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def instance(module: str | None, name: str, registered: str | None = None, /, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


ACTIVATIONS: dict[str, tuple[Any, str]] = {
    "a command": (function("os", "system"), "os.system in 'dense'"),
    "a command by another name": (function("posix", "system"), "posix.system"),
    "a built-in function": (function("builtins", "exec"), "exec"),
    "a user's function": (function(EVIL, "run"), f"{EVIL}.run"),
    "a user's class": (instance(EVIL, "Layer", "Evil>Layer"), "Evil>Layer"),
    "a class of a process": (instance("subprocess", "Popen", args="true"), "subprocess.Popen"),
    "a download": (function("keras.utils", "get_file"), "keras.utils.get_file"),
    "a module behind Keras": (function("keras.src.utils.file_utils", "File"), "file_utils.File"),
    "Keras' own switch": (function("keras.config", "enable_unsafe_deserialization"), "enable_unsafe"),
    "a loader": (function("keras.saving", "load_model"), "load_model"),
    "a reader": (function("keras.activations", "deserialize"), "deserialize"),
    "a builder": (function("keras.applications", "VGG16"), "keras.applications.VGG16"),
    "a registered name that is none": (instance("keras.layers", "Dense", "os>system", units=3), ""),
    "a nameless class": ({"class_name": ["Lambda"], "config": {}}, "the names of classes"),
    "bytes of code": (
        {"class_name": "__lambda__", "config": {"value": {"code": "4wAA"}}},
        f"a Python lambda in 'dense'; set {TRUST}",
    ),
    "a type": (
        {
            "class_name": "__typespec__",
            "spec_name": "TensorSpec",
            "module": "os",
            "registered_name": None,
            "config": [],
        },
        "__typespec__",
    ),
    "a Lambda in an odd place": (instance("keras.initializers", "Lambda", function="4wAA"), TRUST),
    "a Lambda by another name": (instance("keras.layers", "Dense", "x>Lambda"), TRUST),
    "a Lambda without a module": ({"class_name": "Lambda", "config": {"function": "4wAA"}}, TRUST),
    "a saved graph": (
        instance("keras.layers", "TFSMLayer", filepath="/nowhere"),
        f"a TFSMLayer in 'dense'; set {TRUST}",
    ),
    "a PyTorch module": (
        instance("keras.layers", "TorchModuleWrapper", module="UEs="),
        f"a TorchModuleWrapper in 'dense'; set {TRUST}",
    ),
    "a file of words": (
        instance("keras.layers", "TextVectorization", vocabulary="/etc/passwd"),
        "vocabulary='/etc/passwd'",
    ),
    "a file of words, too": (instance("keras.layers", "StringLookup", vocabulary="/etc/passwd"), TRUST),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_a_description_names_nothing_but_keras_own_layers(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, path = tmp_path / "canary", tmp_path / "my.keras"
    (tmp_path / f"{EVIL}.py").write_text(f"open({str(canary)!r}, 'w')\nclass Layer: ...\ndef run(x): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    saved.small().save(path)
    hostile, words = ACTIVATIONS[case]

    def change(description: dict[str, Any]) -> None:
        assert description["config"]["layers"][-1]["config"]["name"] == "dense"
        description["config"]["layers"][-1]["config"]["activation"] = hostile

    saved.edited(path, change)
    if case == "a registered name that is none":  # Keras itself refuses it
        with pytest.raises(SavedModelError, match="expected a model that Keras can load"):
            loading.load(path)
        return
    expect_refused(path, canary, words)


@pytest.mark.parametrize("part", ["compile_config", "build_config", "registered_name"])
def test_no_part_of_a_description_is_left_unread(part: str, tmp_path: Path) -> None:
    path = tmp_path / "my.keras"
    saved.small(compiled=True).save(path)

    def change(description: dict[str, Any]) -> None:
        if part == "registered_name":
            description.update(registered_name="x>Lambda")
        else:
            description[part] = {"loss": [function("os", "system")]}

    expect_refused(saved.edited(path, change), tmp_path / "canary", "model.trust=true")


def test_the_training_of_an_old_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "my.h5"
    saved.small(compiled=True).save(path)
    with h5py.File(path, "r+") as file:
        text = file.attrs["training_config"]
        del file.attrs["training_config"]
        file.attrs["training_config"] = text.replace('"Adam"', '"Lambda"')
    expect_refused(path, tmp_path / "canary", "a Lambda", TRUST)


def test_a_layer_that_is_not_registered_says_how_it_can_be(tmp_path: Path) -> None:
    class Odd(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    keras.Sequential([keras.Input((3,)), Odd(name="odd")]).save(tmp_path / "my.keras")
    how = "Register it with @keras.saving.register_keras_serializable in a module of yours, and set model._target_="
    expect_refused(tmp_path / "my.keras", tmp_path / "canary", "Odd in 'odd'", how)


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("assets/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


MEMBERS: dict[str, tuple[Any, bytes, str]] = {
    "a path upwards": ("assets/../../canary", b"", "leads out of the archive: 'assets/../../canary'"),
    "an absolute path": ("/tmp/canary-of-a-test", b"", "leads out of the archive"),
    "a link": (link(), b"/etc/passwd", "a link: 'assets/link'"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_an_archive_unpacks_into_its_own_folder_only(case: str, tmp_path: Path) -> None:
    name, data, words = MEMBERS[case]
    path = tmp_path / "down" / "my.keras"
    path.parent.mkdir()
    saved.small().save(path)
    expect_refused(saved.edited(path, lambda _: None, ((name, data),)), tmp_path / "canary", words)


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    for name, size in (("config.json", 2**31), ("assets/words.txt", 2**28), ("model.weights.h5", 2**28)):
        path = tmp_path / "bomb.keras"
        saved.small().save(path)
        with zipfile.ZipFile(path) as archive:
            content = {each: archive.read(each) for each in archive.namelist() if each != name}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for each, data in content.items():
                archive.writestr(each, data)
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(size // 2**24):
                    member.write(b" " * 2**24)
        with pytest.raises(SavedModelError, match=f"expected {name} to be stored or deflated, and of a plausible size"):
            loading.load(path)


def test_a_file_without_end_and_one_without_sense_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "my.keras"
    saved.small().save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:1000], whole[:-30], b"PK" + whole[2:500]):
        path.write_bytes(content)
        expect_refused(path, tmp_path / "canary", "Received: ")
    path.write_bytes(whole)
    deep = "[" * 100_000 + "]" * 100_000
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", deep)
        archive.writestr("model.weights.h5", b"")
    expect_refused(path, tmp_path / "canary", "a damaged file: RecursionError")
    old = tmp_path / "my.h5"
    saved.small().save(old)
    old.write_bytes(old.read_bytes()[:-3000])
    with pytest.raises(SavedModelError, match="damaged"):
        loading.load(old)


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    saved.small().save_weights(tmp_path / "my.weights.h5")
    (tmp_path / "my.weights.h5").rename(tmp_path / "my.h5")
    expect_refused(tmp_path / "my.h5", tmp_path / "canary", "Received: weights only; set model=NAME model.weights=")


def test_an_old_file_refers_to_no_other(tmp_path: Path) -> None:
    path = tmp_path / "my.h5"
    saved.small().save(path)
    with h5py.File(path, "r+") as file:
        file["model_weights/there"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(SavedModelError, match="a link to something else"):
        loading.load(path)
