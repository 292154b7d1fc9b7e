"""The layout's one-way imports: what each package may pull in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = {"record.py": ("fields", "reading"), "fields.py": ("reading",), "reading.py": ()}
"""Records and what reads them: the standard library only, and of ours nothing but each other."""
HEAVY = ("ray", "mlflow", "hydra", "tensorflow", "keras", "matplotlib")


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import nets", ()),
        ("import tracking", ()),
        ("import tracking.record, tracking.journal, tracking.sinks, tracking.outbox", ()),
        ("import sweeps, sweeps.timing, sweeps.isolate, sweeps.devices, sweeps.plan, sweeps.dispatch", ()),
        ("import sweeps.tasks, sweeps.tasks.checks, sweeps.tasks.dataset", ()),
        ("from sweeps import sweep, read, UsageError", ()),
        ("import sweeps.schema", ("hydra",)),
    ],
)
def test_a_light_import_stays_light(statement: str, allowed: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= set(allowed)


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _within(names: set[str], package: str) -> set[str]:
    return {name for name in names if name == package or name.startswith(f"{package}.")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("nets/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nets_knows_only_keras_and_records(path: Path) -> None:
    names = _imported(path)
    assert not _within(names, "sweeps")
    ours = _within(names, "tracking") - {"tracking"}
    assert {name for name in ours if not name.startswith("tracking.record")} == set()


@pytest.mark.parametrize("path", sorted(ROOT.glob("tracking/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_tracking_knows_no_sweeps(path: Path) -> None:
    names = _imported(path)
    assert not _within(names, "sweeps")
    assert not _within(names, "nets")
    if path.name not in ("mlflow_experiment.py", "mlflow_source.py"):
        assert not _within(names, "mlflow")
    if path.name in SCHEMA:
        assert {name.split(".")[1] for name in _within(names, "tracking")} <= set(SCHEMA[path.name])
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"tracking"}


def test_what_travels_with_a_model_needs_nothing_of_ours() -> None:
    for path in ROOT.glob("sweeps/picture_classifier/*.py"):
        assert not {name.split(".")[0] for name in _imported(path)} & {"sweeps", "nets", "tracking", "keras", "mlflow"}


def test_ray_hydra_and_mlflow_stay_in_their_rooms() -> None:
    for path in ROOT.glob("sweeps/**/*.py"):
        names = _imported(path)
        room = path.relative_to(ROOT / "sweeps").parts
        if room != ("tasks", "model_file.py"):
            assert not _within(names, "mlflow"), path
        if room[0] != "cluster" and not room[0].startswith("ray_"):
            assert not _within(names, "ray"), path
        if room[0] not in ("command.py", "schema.py", "compose.py", "diagnosis.py", "typed_text.py"):
            assert not _within(names, "hydra"), path
