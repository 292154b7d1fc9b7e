"""A module beside the others is a kind of batch job, without being listed anywhere."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sweeps.jobs import kinds
from sweeps.jobs.job import BatchJob

KIND = """
from dataclasses import dataclass
from sweeps.jobs.job import BatchJob
from sweeps.jobs.remote_job import RemoteJob

@dataclass
class {name}(BatchJob):
    name: str = "mine"
"""


def kinds_with(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the package of kinds anew, with `folder`, which has a module `mine` with this text, as part of it."""
    (folder / "mine.py").write_text(text)
    assert kinds.__file__ is not None
    places = [*kinds.__path__, str(folder)]
    spec = importlib.util.spec_from_file_location(kinds.__name__, kinds.__file__, submodule_search_locations=places)
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, kinds.__name__, package)
    monkeypatch.setitem(sys.modules, f"{kinds.__name__}.mine", None)  # so that what follows is undone at the end
    del sys.modules[f"{kinds.__name__}.mine"]
    spec.loader.exec_module(package)
    return package


def test_a_kind_is_found_in_a_module_beside_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_kinds = kinds_with(tmp_path, KIND.format(name="Mine"), monkeypatch).BATCH_KINDS
    assert batch_kinds.keys() == {*kinds.BATCH_KINDS, "mine"}
    assert batch_kinds["mine"].__name__ == "Mine"
    assert issubclass(batch_kinds["mine"], BatchJob)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from sweeps.jobs.job import BatchJob\nfrom sweeps.jobs.remote_job import RemoteJob\n", "expected 1, got 0"),
        (KIND.format(name="One") + KIND.format(name="Two"), "too many values to unpack"),
    ],
    ids=["none", "two"],
)
def test_a_module_with_no_kind_or_with_two_is_an_error(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=reason):
        kinds_with(tmp_path, text, monkeypatch)


def test_every_kind_bears_the_name_of_its_module() -> None:
    for name, kind in kinds.BATCH_KINDS.items():
        assert kind().name == name
        assert kind.__module__ == f"{kinds.__name__}.{name}"
