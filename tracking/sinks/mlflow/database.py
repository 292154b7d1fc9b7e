"""MLflow's database: checked before MLflow opens it, and created completely or not at all.

MLflow itself creates a new database step by step in its final place, so that two processes at once, a full disk or a
kill leave one that never works again. It also adds its tables to any database it is given, and tries for minutes to
open what cannot be opened. Here a SQLite file is made under another name and linked into place when it is complete, and
a database that MLflow cannot use is refused at once, untouched.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib
import logging
import os
import re
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from tracking.folder.files import sync_folder

_SQLITE = re.compile(r"(?P<scheme>sqlite(?:\+\w+)?:///)(?P<path>[^?]+)(?P<query>\?.*)?", re.DOTALL)
_SERVER = re.compile(r"(postgresql|mysql|mssql)(\+\w+)?://")
_LOCK_S = 3.0
"""How long another process may keep the database locked, seconds."""
_QUIET_S = 10.0
"""Seconds without a write after which a half-made file is nobody's work in progress."""
_MAKING_S = 60.0
"""How long another process may take to make a database."""
_AGAIN_S = 0.2

_State = Literal["ready", "absent", "empty", "half made"]

log = logging.getLogger(__name__)


class DatabaseError(Exception):
    """A database that MLflow cannot use; one sentence says why and what helps."""


def sqlite_file(uri: str) -> Path | None:
    """The file that a SQLite address names; None for any other address, and for a database in memory."""
    parts = _SQLITE.fullmatch(uri)
    if parts is None or parts["path"].startswith((":memory:", "file:")):
        return None
    # As SQLAlchemy decodes it; bytes that are no UTF-8 survive.
    return Path(unquote(parts["path"], errors="surrogateescape")).absolute()


def sqlite_uri(database: Path, like: str = "sqlite:///") -> str:
    """The address of a SQLite file, with the scheme and the options of the address `like`."""
    parts = re.fullmatch(r"(sqlite[^:]*:///)[^?]*(\?.*)?", like, re.DOTALL)
    scheme, query = (parts[1], parts[2] or "") if parts else ("sqlite:///", "")
    return f"{scheme}{str(database).replace('%', '%25').replace('?', '%3F')}{query}"


def reach(uri: str, *, make: bool = True) -> str:
    """Check the database and return the address by which MLflow reaches it; with `make`, a new file gets its tables.

    Needs mlflow imported. Raises DatabaseError, and what a database's driver raises. Other addresses than those of
    databases come back as they are.
    """
    if (database := sqlite_file(uri)) is not None:
        _settle(database, make=make)
        return _speakable(database, uri)
    if _SERVER.match(uri):
        _look_at_server(uri)
    return uri


def _settle(database: Path, *, make: bool) -> None:
    """Wait for another process to complete the database, or make it. Raises DatabaseError."""
    end = time.monotonic() + _MAKING_S
    with contextlib.ExitStack() as held:
        alone = False
        while (state := _state(database, writing=make)) != "ready":
            if not make:
                raise DatabaseError("expected a database with runs. Received: a file without runs, or no file")
            if state != "absent" and _fresh(database):
                if time.monotonic() > end:
                    raise DatabaseError("another process has not finished making it; results wait until it has")
                time.sleep(_AGAIN_S)
            elif not alone:
                database.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(_folder_locked(database.parent))
                alone = True  # and check again: whoever held the lock before may have made it
            else:
                _make(database, state)


def _state(database: Path, *, writing: bool) -> _State:
    """The state of the file. Raises DatabaseError where MLflow must not, or cannot, use it."""
    try:
        str(database).encode()
    except UnicodeEncodeError:
        raise DatabaseError(
            "expected a folder whose name is UTF-8, as MLflow's files need it; "
            "name another with tracking.uri=sqlite:////PATH/mlflow.db, or leave MLflow out with tracking=csv"
        ) from None
    try:
        status = database.stat()
    except FileNotFoundError:
        if database.is_symlink():
            raise DatabaseError("expected a file. Received: a symbolic link to nothing") from None
        return "absent"
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise DatabaseError(f"expected a SQLite database. Received: {kind}")
    if not status.st_size:
        return "empty"
    if writing:
        for place in (database, database.parent):
            if not os.access(place, os.W_OK):
                raise DatabaseError(f"{place} cannot be written by this user; name another database with tracking.uri")
    try:
        with contextlib.closing(_opened(database)) as connection:
            if writing:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            tables = {name for name in names if not name.startswith("sqlite_")}
            revisions: set[str] = set()
            if "alembic_version" in tables:
                revisions = {str(row[0]) for row in connection.execute("SELECT * FROM alembic_version")}
            return _judge(tables, revisions, lambda: _used(connection, tables), sqlite_uri(database))
    except sqlite3.Error as error:
        raise DatabaseError(_trouble(error)) from None


def _opened(database: Path) -> sqlite3.Connection:
    # `rw` makes no file, and can finish what a killed process began.
    return sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=_LOCK_S, isolation_level=None)


def _trouble(error: sqlite3.Error) -> str:
    """SQLite's message, with a remedy."""
    words = str(error)
    if "locked" in words:
        return f"another process keeps it locked ({words})"
    if "not a database" in words:
        return "expected a SQLite database. Received: another kind of file; name another with tracking.uri"
    if "malformed" in words:
        return f"it is damaged ({words}); restore it from a backup, or move it away"
    return f"it cannot be used: {words}"


def _used(connection: sqlite3.Connection, tables: set[str]) -> bool:
    """Whether the tables hold anything but what MLflow puts into new ones."""
    ours = {"alembic_version": "0", "workspaces": "0", "experiments": "name <> 'Default'"}
    for table in tables:
        name = '"' + table.replace('"', '""') + '"'
        try:
            if connection.execute(f"SELECT 1 FROM {name} WHERE {ours.get(table, '1')} LIMIT 1").fetchone():
                return True
        except sqlite3.OperationalError as error:
            if "no such column" not in str(error):
                raise
            return True  # somebody else's table that shares its name with one of MLflow's
    return False


def _judge(tables: set[str], revisions: set[str], used: Callable[[], bool], address: str) -> _State:
    """The state of a database with these tables, for this MLflow. Raises DatabaseError for one that is not MLflow's."""
    known, head, is_known = _schema()
    others = {name for name in tables if name != "alembic_version" and not name.startswith("_alembic_tmp_")}
    if known <= others and revisions == {head}:
        return "ready"
    if not others and not revisions - {head}:
        return "empty"
    of_mlflow = {"experiments", "runs"} <= others
    if of_mlflow and revisions and not all(map(is_known, revisions)):
        version = importlib.import_module("mlflow.version").VERSION
        raise DatabaseError(
            f"a newer MLflow made it (schema {', '.join(sorted(revisions))}) than the one here, {version}; "
            "install that one, or name another database with tracking.uri"
        )
    if others <= known and not used():
        return "half made"
    if of_mlflow and revisions:
        raise DatabaseError(
            f"an older MLflow made it (schema {', '.join(sorted(revisions))}, expected {head}); "
            f"back it up, then run: mlflow db upgrade '{address}'"
        )
    names = sorted(others)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    raise DatabaseError(
        f"expected MLflow's own database. Received: one with other tables ({shown}), which was left as it is; "
        "name another with tracking.uri"
    )


@functools.cache
def _schema() -> tuple[frozenset[str], str, Callable[[str], bool]]:
    """The tables and the revision of this MLflow's databases, and whether it knows a revision."""
    importlib.import_module("mlflow.store.db.utils")  # which registers all tables
    base: Any = importlib.import_module("mlflow.store.db.base_sql_model").Base
    folder = importlib.import_module("mlflow.store.db_migrations").__path__[0]
    scripts: Any = importlib.import_module("alembic.script").ScriptDirectory(folder)
    revisions = {script.revision for script in scripts.walk_revisions()}
    return frozenset(base.metadata.tables), str(scripts.get_current_head()), revisions.__contains__


def _fresh(database: Path) -> bool:
    """Whether somebody wrote there a moment ago."""
    newest = 0.0
    for path in (database, database.with_name(f"{database.name}-journal")):
        with contextlib.suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    return time.time() - newest < _QUIET_S


@contextlib.contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """Keep other sweeps from making a database in the folder meanwhile; the lock leaves no file there.

    It only saves work: without the lock, the link into place still lets only one database win.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _MAKING_S
        while time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_AGAIN_S)
            except OSError:  # a file system without such locks
                break
        yield
    finally:
        os.close(descriptor)


def _make(database: Path, state: _State) -> None:
    """Make a complete database in a temporary file, and link it into place unless another process was faster."""
    for left in database.parent.glob(f".{_literal(database.name)}.*.new"):
        if not _fresh(left):  # of a process that was killed
            left.unlink(missing_ok=True)
    temporary = database.with_name(f".{database.name}.{uuid.uuid4().hex[:8]}.new")
    try:
        # Fails at once where the folder takes no file; SQLite would be tried again and again.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        store: Any = importlib.import_module("mlflow.store.tracking.sqlalchemy_store").SqlAlchemyStore
        # As an address, in which quotes are encoded: MLflow writes it into its SQL unquoted.
        made = store(_speakable(temporary, "sqlite:///"), (database.parent / "mlruns").as_uri())
        # A connection would keep the journal under the old name.
        made.engine.dispose()
        if state == "empty":
            temporary.replace(database)
        else:
            if state == "half made":
                kept = _set_aside(database)
                log.warning("%s was half made and had no run: it is now %s, and a new one was made", database, kept)
            _put(temporary, database)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            temporary.with_name(f"{temporary.name}{suffix}").unlink(missing_ok=True)
    sync_folder(database.parent)


def _put(temporary: Path, database: Path) -> None:
    with contextlib.suppress(FileExistsError):
        try:
            os.link(temporary, database)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            temporary.replace(database)


def _set_aside(database: Path) -> str:
    number = 0
    while (aside := database.with_name(f"{database.name}.incomplete{number or ''}")).exists():
        number += 1
    database.rename(aside)
    return aside.name


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _speakable(database: Path, uri: str) -> str:
    """An address of the file that SQLAlchemy and MLflow read alike.

    One of them decodes it and the other does not, so a folder with a percent or a question mark in its name goes by its
    number among the open files of this process.
    """
    folder = str(database.parent)
    if not {"%", "?"} & set(str(database)):
        return sqlite_uri(database, uri)
    if {"%", "?"} & set(database.name):
        raise DatabaseError("expected a database's name without % and ?")
    alias = Path("/proc/self/fd", str(_descriptor(folder)))
    if not alias.is_dir():
        raise DatabaseError("expected a folder without % and ? in its name; name another database with tracking.uri")
    return sqlite_uri(alias / database.name, uri)


@functools.cache
def _descriptor(folder: str) -> int:
    """The folder, kept open for the life of this process, since MLflow keeps connections by their address."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _look_at_server(uri: str) -> None:
    """Try a database server once, where MLflow would try for minutes. Raises DatabaseError, and what the driver raises.

    A server makes all tables in one transaction, so a new database is left to MLflow.
    """
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    try:
        with engine.connect() as connection:
            tables = set(sqlalchemy.inspect(connection).get_table_names())
            revisions: set[str] = set()
            if "alembic_version" in tables:
                rows = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version"))
                revisions = {str(row[0]) for row in rows}
            _judge(tables, revisions, lambda: bool(revisions), uri)
    finally:
        engine.dispose()
