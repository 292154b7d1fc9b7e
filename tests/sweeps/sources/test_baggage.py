from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeps.errors import UsageError
from sweeps.process.project import ROOT
from sweeps.sources import baggage


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x = 1\n")


def packed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_ours_and_the_users_code_travels_and_nothing_else(tmp_path: Path) -> None:
    cwd, folder = tmp_path / "cwd", tmp_path / "out"
    make(cwd, "my_nets.py", "package/__init__.py", "package/sub/net.py", "package/table.json", "plain/net.py")
    make(cwd, ".env", "notes.txt", "mlflow.db", "data/images.bin", "multirun/x/__init__.py", "tests/__init__.py")
    make(cwd, ".git/config", "package/__pycache__/net.pyc", "package/.secret", "sweeps.py", "other/net.py")
    baggage.pack(folder, cwd, ["plain.net.big", "my_nets.small"])
    users = {name for name in packed(folder) if name.partition("/")[0] not in baggage.OURS}
    assert users == {"my_nets.py", "package/__init__.py", "package/sub/net.py", "package/table.json", "plain/net.py"}
    assert {"sweeps/dispatch/loop.py", "nets/__init__.py", "tracking/record.py", "conf/config.yaml"} <= packed(folder)


def test_in_the_project_itself_only_its_packages_travel(tmp_path: Path) -> None:
    baggage.pack(tmp_path / "out", ROOT)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(baggage.OURS)
    assert not [name for name in packed(tmp_path / "out") if "__pycache__" in name]


def test_nets_in_the_project_folder_travel_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    make(root, "my_nets.py", "setup.cfg", "benchmarks/tables.py", "tests/__init__.py", "build/__init__.py")
    make(root, *(f"{name}/__init__.py" for name in baggage.OURS))
    monkeypatch.setattr(baggage, "ROOT", root)
    baggage.pack(tmp_path / "out", root)
    assert packed(tmp_path / "out") == {"my_nets.py", *(f"{name}/__init__.py" for name in baggage.OURS)}


def test_what_is_large_is_named_before_anything_is_copied(tmp_path: Path) -> None:
    cwd, out = tmp_path / "cwd", tmp_path / "out"
    make(cwd, "package/__init__.py", "package/weights/readme.txt", "small.py")
    with (cwd / "package" / "weights" / "big.bin").open("wb") as file:
        file.truncate(3 * 2**30)  # all hole: a copy of it would be 3 GB
    with pytest.raises(UsageError) as error:
        baggage.pack(out, cwd)
    assert str(error.value).endswith(
        "Received: more, most of it in package/weights (at least 3072 MB). Start the sweep in a folder with less."
    )
    assert not out.exists()


def test_links_that_lead_round_and_what_is_no_file_stay_behind(tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    make(cwd, "package/__init__.py", "package/sub/net.py", "shared/table.json")
    (cwd / "package" / "sub" / "round").symlink_to("..")
    (cwd / "package" / "shared").symlink_to("../shared")
    os.mkfifo(cwd / "package" / "pipe")
    (cwd / "package" / "endless").symlink_to("/dev/zero")
    baggage.pack(tmp_path / "out", cwd)
    users = {name for name in packed(tmp_path / "out") if name.partition("/")[0] not in baggage.OURS}
    assert users == {"package/__init__.py", "package/sub/net.py", "package/shared/table.json"}


def test_what_cannot_be_copied_is_reported(tmp_path: Path) -> None:
    make(tmp_path / "cwd", "package/__init__.py")
    (tmp_path / "cwd" / "package" / "table.json").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"that can be copied.* Received: .*table.json"):
        baggage.pack(tmp_path / "out", tmp_path / "cwd")
