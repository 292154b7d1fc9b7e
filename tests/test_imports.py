"""The layout's one-way imports: what each room may pull in."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nets", "sweeps", "tracking")
DOWNWARDS = (
    *("sweeps.library", "sweeps.run", "sweeps.command", "sweeps.session", "sweeps.runner", "sweeps.screen"),
    *("sweeps.recorder", "sweeps.machinery", "sweeps.outcome", "sweeps.identity", "sweeps.request", "sweeps.clusters"),
    *("sweeps.clusters.existing", "sweeps.jobs.kinds", "sweeps.jobs.slurm", "sweeps.jobs.kubernetes", "sweeps.jobs"),
    *("sweeps.cluster", "sweeps.dispatch", "sweeps.plan", "sweeps.tasks", "sweeps.tasks.training"),
    *("sweeps.tasks.timing", "sweeps.tasks.pictures", "sweeps.tasks.picture_classifier", "sweeps.tasks.graphs"),
    *("sweeps.typed", "sweeps.sources", "sweeps.worker", "sweeps.machine", "sweeps.process"),
    *("sweeps.wording", "sweeps.errors"),
    *("tracking.sync", "tracking.compare", "tracking.show", "tracking.report"),
    *("tracking.tables", "tracking.sinks", "tracking.sinks.mlflow", "tracking.plots", "tracking.analysis"),
    *("tracking.sink", "tracking.names", "tracking.axes", "tracking.folder", "tracking.text"),
    "tracking.startup",
    "tracking.analysis.stats",
    *("nets.__main__", "nets.custom", "nets.registry", "nets.saved", "nets.weights", "nets.architectures"),
    *("nets.keras_names", "nets.source_text", "nets.conventions", "nets.counting", "nets.lrn", "nets.inputs"),
    *("nets.errors", "tracking.record", "tracking.schema"),
)
"""Every room, and every module that stands outside of one: each imports only from those that come later.

What every package's own `__init__` imports is open to all of its users and stands outside of the order.
"""
HEAVY = ("ray", "mlflow", "hydra", "tensorflow", "keras", "matplotlib")
LARGEST_FOLDER, LONGEST_FILE = 12, 350


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import nets", ()),
        ("import tracking", ()),
        ("import tracking.record, tracking.folder.journal, tracking.sinks.registry, tracking.sinks.outbox", ()),
        ("import sweeps, sweeps.tasks.timing.loop, sweeps.worker.isolate, sweeps.machine.node", ()),
        ("import sweeps.plan.order, sweeps.plan.checks, sweeps.plan.stopping, sweeps.dispatch.loop", ()),
        ("import sweeps.tasks, sweeps.tasks.checks, sweeps.tasks.pictures.dataset", ()),
        ("from sweeps import sweep, read, UsageError", ()),
        ("import sweeps.request.schema, sweeps.request.options", ("hydra",)),
    ],
)
def test_a_light_import_stays_light(statement: str, allowed: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= set(allowed)


def _files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted(ROOT.glob(f"{package}/**/*.py"))]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module(path): path for path in _files()}


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _of_ours(path: Path) -> set[str]:
    """This project's modules that a file imports: `from a import b` is the module a.b, or a itself where b is none."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {full if full in MODULES else node.module for full in names.values()}
    return modules & MODULES.keys()


def _within(names: set[str], package: str) -> set[str]:
    return {name for name in names if name == package or name.startswith(f"{package}.")}


def _room(module: str) -> str:
    """The place of a module in the order: its own where it has one, else that of the package that it is in."""
    return module if module in (*DOWNWARDS, *PACKAGES) else module.rpartition(".")[0]


def _upward() -> Iterator[str]:
    for module, path in MODULES.items():
        if module in PACKAGES:
            continue
        for imported in _of_ours(path):
            room, other = _room(module), _room(imported)
            if room != other and other not in PACKAGES and DOWNWARDS.index(room) > DOWNWARDS.index(other):
                yield f"{module} imports {imported}"


def test_every_room_has_its_place() -> None:
    assert {_room(module) for module in MODULES if module not in PACKAGES} == set(DOWNWARDS)


def test_imports_run_downwards() -> None:
    assert sorted(_upward()) == []


def test_no_import_circle_exists() -> None:
    try:
        TopologicalSorter({module: _of_ours(path) - {module} for module, path in MODULES.items()}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_folders_stay_small_and_files_short() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    files = [Path(name) for name in tracked if (ROOT / name).is_file()]
    folders = {path.parent for path in files if path.parts[0] != "conf"}  # there, a file is a choice of a menu
    crowded = {
        str(folder): count
        for folder in folders
        if (count := sum(path.parent == folder and not path.name.startswith(".") for path in files)) > LARGEST_FOLDER
    }
    assert crowded == {}
    sources = [path for path in files if path.suffix == ".py"]
    lengths = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


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
    if path.relative_to(ROOT).parts[:3] != ("tracking", "sinks", "mlflow"):
        assert not _within(names, "mlflow")
    if path == ROOT / "tracking" / "record.py" or path.parent == ROOT / "tracking" / "schema":
        # Every process imports the records: they need the standard library, and of this project nothing but each other.
        assert {name.split(".")[1] for name in _within(names, "tracking") - {"tracking"}} <= {"schema"}
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"tracking"}


def test_what_travels_with_a_model_needs_nothing_of_ours() -> None:
    for path in ROOT.glob("sweeps/tasks/picture_classifier/*.py"):
        assert not {name.split(".")[0] for name in _imported(path)} & {"sweeps", "nets", "tracking", "keras", "mlflow"}


def test_ray_hydra_and_mlflow_stay_in_their_rooms() -> None:
    with_ray = (
        *("sweeps.clusters.", "sweeps.dispatch.ray_", "sweeps.dispatch.task_"),
        *("sweeps.process.quiet_ray", "sweeps.jobs.kinds.ray_job", "sweeps.jobs.slurm.nodes"),
    )
    for module, path in MODULES.items():
        names, room = _imported(path), _room(module)
        if module != "sweeps.tasks.training.model_file":
            assert not _within(names, "mlflow") or room == "tracking.sinks.mlflow", path
        assert not _within(names, "ray") or module.startswith(with_ray), path
        assert not _within(names, "hydra") or room in ("sweeps.command", "sweeps.request"), path
