"""Databases that are being made, half made, damaged or somebody else's, through the real sink."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep, write_journal
from tests.support.tracking_servers import MlflowServer
from tests.tracking.conftest import Runs
from tracking import show, sync
from tracking.record import Result, Sweep
from tracking.sink import SinkError
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.outbox import Outbox

ROOT = Path(__file__).parents[4]
OLDER = "867495a8f9d4"
"""A revision of MLflow's schema in between."""


def planned(folder: Path, uri: str, sweep_id: str = "20251009-085320-a1b2c3") -> tuple[Sweep, list[Result]]:
    results = [make_result(batch=batch, sweep_id=sweep_id, steps=3) for batch in (1, 2)]
    sweep = make_sweep(results, folder, facts={"tracking": {"mlflow": {"uri": uri, "experiment": "sweeps"}}})
    write_journal(sweep, results)
    return sweep, results


def write(uri: str, folder: Path) -> None:
    result = make_result(batch=1, steps=3)
    sink = MlflowSink(uri)
    sink.open(make_sweep([result], folder))
    sink.write(result)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_many_sweeps_and_a_server_at_once_in_a_fresh_folder(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    uri = f"sqlite:///{place}/mlflow.db"
    ids = [f"sweep-{number}" for number in range(4)]
    for name in ids:
        planned(tmp_path / name, uri, name)
    running = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tracking" / "sync.py"), str(tmp_path / name)],
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ids
    ]
    server = MlflowServer(place, bare=True)
    try:
        server.start()
        outputs = [process.communicate(timeout=300)[0] for process in running]
        assert [process.returncode for process in running] == [0] * 4, outputs
        runs = Runs(server.uri)
        assert {run.data.tags["sweep_id"] for run in runs.parents} == set(ids)
        assert (len(runs.parents), len(runs.children)) == (4, 8)
    finally:
        server.stop()
    assert names(place) <= {"mlflow.db", "mlartifacts", "server.log"}


def test_a_database_that_another_process_is_making_is_waited_for(tmp_path: Path, empty_database: Path) -> None:
    """Half made at first, and finished meanwhile: nothing is set aside."""
    database = tmp_path / "mlflow.db"
    half_made(database)
    finish = f"import shutil, time; time.sleep(1); shutil.copyfile({str(empty_database)!r}, {str(database)!r})"
    with subprocess.Popen([sys.executable, "-c", finish]):
        write(f"sqlite:///{database}", tmp_path / "sweep")
    assert len(Runs(f"sqlite:///{database}").children) == 1
    assert names(tmp_path) == {"mlflow.db", "mlartifacts"}


def half_made(database: Path) -> None:
    """What is left of a first migration that was broken off."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT)")
        connection.execute("INSERT INTO experiments VALUES (0, 'Default')")
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")


def long_ago(path: Path) -> None:
    os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.mark.parametrize("make", [half_made, Path.touch], ids=["half made", "empty"])
def test_what_a_broken_start_has_left_is_replaced(
    make: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "mlflow.db"
    make(database)
    long_ago(database)
    half = database.stat().st_size > 0
    write(f"sqlite:///{database}", tmp_path / "sweep")
    assert len(Runs(f"sqlite:///{database}").children) == 1
    assert names(tmp_path) == {"mlflow.db", "mlartifacts"} | ({"mlflow.db.incomplete"} if half else set())
    assert [record.message for record in caplog.records] == (
        [f"{database} was half made and had no run: it is now mlflow.db.incomplete, and a new one was made"]
        if half
        else []
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not permitted")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_leaves_no_broken_database(
    small_disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{small_disk}/mlflow.db"
    sweep, results = planned(tmp_path / "sweep", uri)
    outbox = Outbox([MlflowSink(uri)])
    outbox.preload().join()  # type: ignore[union-attr]
    outbox.open(sweep)
    for result in results:
        outbox.write(result)
        outbox.flush()
    assert not list(small_disk.iterdir())
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        f"MLflow at {uri}: OperationalError: database or disk is full"
    ]
    assert capfd.readouterr() == ("", "")
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    assert sync.main([str(tmp_path / "sweep")]) == 0
    assert len(Runs(uri).children) == 2


def foreign(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE runs (kilometres REAL)")
        connection.execute("CREATE TABLE shoes (name TEXT)")
        connection.execute("INSERT INTO runs VALUES (10.5)")


def alike(database: Path) -> None:
    """Another program's tables that bear names of MLflow's."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE runs (kilometres REAL)")
        connection.execute("CREATE TABLE experiments (name TEXT)")
        connection.execute("INSERT INTO runs VALUES (10.5)")


def nameless(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE experiments (temperature REAL)")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "expected a SQLite database. Received: a directory"),
        (os.mkfifo, "expected a SQLite database. Received: no regular file"),
        (lambda path: path.symlink_to("nowhere"), "Received: a symbolic link to nothing"),
        (lambda path: path.write_bytes(b"PK\3\4" * 999), "Received: another kind of file"),
        (foreign, r"Received: one with other tables \(runs, shoes\), which was left as it is"),
        (alike, r"Received: one with other tables \(experiments, runs\), which was left as it is"),
        (nameless, r"Received: one with other tables \(experiments\), which was left as it is"),
    ],
    ids=["directory", "fifo", "link", "other file", "other tables", "tables of the same names", "without a name"],
)
def test_what_is_no_database_of_mlflow_is_one_sentence_and_untouched(
    make: Callable[[Path], None],
    words: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = tmp_path / "mlflow.db"
    make(database)
    content = database.read_bytes() if database.is_file() else b""
    uri = f"sqlite:///{database}"
    with pytest.raises(SinkError, match=words) as caught:
        write(uri, tmp_path / "sweep")
    assert "\n" not in str(caught.value)
    assert show.main(["a-sweep", "--uri", uri]) == 2  # reading is no less careful
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert not caplog.records
    assert (database.read_bytes() if database.is_file() else b"") == content
    assert names(tmp_path) == {"mlflow.db"}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"UPDATE alembic_version SET version_num = '{OLDER}'", r"back it up, then run: mlflow db upgrade 'sqlite:///"),
        ("UPDATE alembic_version SET version_num = 'abcdef012345'", r"a newer MLflow made it .*; install that one"),
    ],
    ids=["older", "newer"],
)
def test_a_database_of_another_mlflow_gets_its_advice_and_no_migration(
    statement: str, words: str, uri: str, tmp_path: Path
) -> None:
    write(uri, tmp_path / "sweep")
    database = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)
        connection.execute("DROP TABLE job_locks")  # MLflow would migrate by itself where it misses a table
    content = database.read_bytes()
    with pytest.raises(SinkError, match=words):
        write(uri, tmp_path / "sweep")
    assert database.read_bytes() == content


def test_a_damaged_or_locked_database_is_one_sentence(
    uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "mlflow.db"
    for mode in ("EXCLUSIVE", "IMMEDIATE"):
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute(f"BEGIN {mode}")
            with pytest.raises(SinkError, match="another process keeps it locked"):
                write(uri, tmp_path / "sweep")
    os.truncate(database, 10_000)
    with pytest.raises(SinkError, match=r"it is damaged .*; restore it from a backup, or move it away"):
        write(uri, tmp_path / "sweep")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
@pytest.mark.parametrize("what", ["file", "folder", "new", "unreadable"])
def test_what_another_user_may_not_open_is_one_sentence_at_once(what: str, uri: str, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o777 if what in ("file", "unreadable") else 0o755)
    database.chmod(0o600 if what == "unreadable" else 0o644 if what == "file" else 0o666)
    if what == "new":
        database.unlink()
    code = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.support.records import make_result, make_sweep
from tracking.sinks.mlflow.client import preload
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sink import SinkError
time.sleep = lambda seconds: sys.exit(f"it would sleep for {{seconds}} s")
preload()
os.setuid(65534)
try:
    sink = MlflowSink({uri!r})
    sink.open(make_sweep([make_result()], "/nowhere"))
except SinkError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"MLflow at {uri}: ")
    assert done.stdout.count("\n") == 1
    assert "cannot be written by this user" in done.stdout or "Permission denied" in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["b c", "it's", 'a"b', "100%", "p%41x", "a#b", "w?x", "e😀", "a;b&c", "[x]*"])
def test_any_folder_will_do(name: str, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / name
    place.mkdir()
    if name != "w?x":  # one of them makes its own
        shutil.copyfile(empty_database, place / "mlflow.db")
    monkeypatch.chdir(place)
    planned(place / "sweep", "sqlite:///mlflow.db")
    sink = MlflowSink()
    sweep, results = planned(place / "sweep", "sqlite:///mlflow.db")
    sink.open(sweep)
    for result in results:
        sink.write(result)
    sink.close(sweep, results)
    assert names(place) == {"mlflow.db", "mlartifacts", "sweep"}
    assert names(tmp_path) == {name}
    assert len(list(place.glob("mlartifacts/sweeps/*/artifacts/layers.json"))) == 2
    with contextlib.closing(sqlite3.connect(place / "mlflow.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (3,)
    assert show.main([sweep.sweep_id]) == 0


def test_a_folder_that_is_no_utf8_is_one_sentence(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"n\xff")
    place.mkdir()
    with pytest.raises(SinkError, match="expected a folder whose name is UTF-8"):
        write(f"sqlite:///{place}/mlflow.db", place)
    assert not list(place.iterdir())
