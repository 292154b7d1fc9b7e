from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

from nets import BadArguments
from nets.custom import BadTarget, check, from_target

SOURCE = """
import keras

class Family:
    @staticmethod
    def small(width=2):
        image = keras.Input((4,))
        return keras.Model(image, keras.layers.Dense(width)(image))

def not_a_model():
    return {"model": None}

def fails():
    raise RuntimeError("of its own")

constant = 3
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine_for_test").mkdir()
    (tmp_path / "mine_for_test" / "__init__.py").write_text(
        "def lazily():\n    from mine_for_test import small as reexported\n"
    )
    (tmp_path / "mine_for_test" / "small.py").write_text(SOURCE)
    (tmp_path / "mine_for_test" / "broken.py").write_text("import a_module_that_is_not_there\nnet_of_its_own = None\n")
    (tmp_path / "mine_for_test" / "lazy.py").write_text(
        "setattr(__import__('sys').modules[__name__], 'made_later', dict)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("mine_for_test")]:
        del sys.modules[name]


def test_builds_what_the_target_makes() -> None:
    model = from_target("mine_for_test.small.Family.small", width=3)
    assert isinstance(model, keras.Model)
    assert model.output_shape == (None, 3)
    assert from_target("nets.architectures.tiny.tiny").name == "tiny"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("vgg16", "expected a dotted name"),
        ("", "expected a dotted name"),
        ("mine_for_test..small", "expected a dotted name"),
        ("mine_for_tset.small.Family", "There is no module 'mine_for_tset'. Did you mean mine_for_test"),
        ("mine_for_test.smal.Family", "mine_for_test has no 'smal'. Did you mean small"),
        ("mine_for_test.small.Famly", "mine_for_test.small has no 'Famly'. Did you mean Family"),
        ("mine_for_test.small.Family.smal", "mine_for_test.small.Family has no 'smal'. Did you mean small"),
        ("mine_for_test.small.constant", "to be a callable. Received: int"),
        ("mine_for_test.small", "to be a callable. Received: module"),
        ("mine_for_test.small.not_a_model", "to return a keras.Model. Received: dict"),
    ],
)
def test_bad_targets(target: str, words: str) -> None:
    with pytest.raises(BadTarget) as raised:
        from_target(target)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("vgg16", "expected a dotted name"),
        ("mine_for_tset.small.Family", "There is no module 'mine_for_tset'. Did you mean mine_for_test"),
        ("mine_for_test.smal.Family", "mine_for_test has no 'smal'. Did you mean small"),
        ("mine_for_test.small.Famly", "mine_for_test.small has no 'Famly'. Did you mean Family"),
        ("mine_for_test.small", "to be a callable. Received: a module"),
        ("os.system", "expected a callable of your own or of an installed package. Received: os.system, from the"),
    ],
)
def test_check_tells_without_importing(target: str, words: str) -> None:
    [problem] = check(target, {})
    assert words in problem
    assert not any(name.startswith("mine_for_test") for name in sys.modules)


@pytest.mark.parametrize(
    "target",
    [
        "mine_for_test.small.Family.small",
        "mine_for_test.broken.net_of_its_own",
        "mine_for_test.reexported",
        "keras.applications.ResNet50V2",
        "keras.Sequential",
        "tensorflow.keras.applications.VGG16",
        "tensorflow.keras.Sequential",
        "tensorflow.compat.v1.keras.Model",
        "mine_for_test.lazy.made_later",
        "nets.architectures.vgg.vgg16",
    ],
)
def test_check_lets_pass_what_may_be_right(target: str) -> None:
    assert check(target, {}) == []


def test_check_of_arguments() -> None:
    [problem] = check("nets.architectures.vgg.vgg16", {"num_clases": 3, "keep_prob": 1})
    assert problem == "nets.architectures.vgg.vgg16 has no argument 'num_clases'. Did you mean num_classes?"


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(BadArguments, match="Did you mean width"):
        from_target("mine_for_test.small.Family.small", widht=3)


def test_errors_of_the_target_pass_through() -> None:
    with pytest.raises(RuntimeError, match="of its own"):
        from_target("mine_for_test.small.fails")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        from_target("mine_for_test.broken.net")


def test_nothing_of_the_standard_library_is_called_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "mine_for_test" / "small.py").write_text(
        SOURCE + "import functools, os, subprocess\npartial = functools.partial(os.system, command='touch ran')\n"
    )
    for name in ("os.system", "partial", "subprocess.call", "subprocess.Popen", "functools.partial"):
        with pytest.raises(BadTarget, match="expected a callable of your own or of an installed package"):
            from_target(f"mine_for_test.small.{name}", args="touch ran")
    (tmp_path / "mine_for_test" / "more.py").write_text(
        "import functools\nfrom mine_for_test.small import Family\n"
        "partial = functools.partial(Family.small, width=3)\ncached = functools.cache(Family.small)\n"
    )
    assert from_target("mine_for_test.more.partial").output_shape == (None, 3)
    assert from_target("mine_for_test.more.cached").output_shape == (None, 2)


def test_keras_of_tensorflow_is_imported_on_demand() -> None:
    model = from_target("tensorflow.keras.applications.MobileNetV3Small", weights=None, input_shape=(32, 32, 3))
    assert isinstance(model, keras.Model)


def test_a_module_that_cannot_be_parsed(tmp_path: Path) -> None:
    for content, words in ((b"def f(:\n", "line 1: invalid syntax"), (b"a\0b", "null byte"), (b"x = '\xff'", "line 1")):
        (tmp_path / "mine_for_test" / "bad.py").write_bytes(content)
        [problem] = check("mine_for_test.bad.net", {})
        assert "expected mine_for_test.bad to be Python. Received: " in problem
        assert words in problem


def test_a_name_that_is_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"  # unlike `tmp_path` itself not first among the places to import from
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "statistics.py").write_text("net = dict\n")
    (here / "keras").mkdir()
    assert check("keras.Sequential", {}) == []  # a folder that is no package hides nothing
    (here / "keras" / "__init__.py").touch()
    for name, path in (("statistics", "statistics.py"), ("keras", "keras/__init__.py")):
        [problem] = check(f"{name}.net", {})
        assert f"Received: ./{path} beside " in problem
        assert f"rename ./{path} to use it" in problem


def test_packages_without_an_init_may_be_nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "outer_for_test" / "inner"
    inner.mkdir(parents=True)
    (inner / "nets.py").write_text("def net(width=1):\n    return width\n")
    assert check("outer_for_test.inner.nets.net", {"width": 2}) == []
    [problem] = check("outer_for_test.inner.nets.nit", {})
    assert problem == "outer_for_test.inner.nets has no 'nit'. Did you mean net?"
