"""Finds the MLflow database and files of a sweep, or a whole project, that was moved or copied.

A plan names its database by an absolute path, and MLflow keeps the absolute path of each run's files. After `mv A B`
nothing may be created at A again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from tracking.record import Sweep
from tracking.sinks.mlflow.database import sqlite_file, sqlite_uri

FILES = "mlartifacts"
"""The folder of MLflow's files beside a database."""
_PATIENCE_S = 20.0

log = logging.getLogger(__name__)


def follow(sweep: Sweep, folder: Path) -> Sweep:
    """The sweep with `folder` as its folder, and with the database to use now in its tracking settings.

    That is the plan's own database if it still exists. A database at the same relative path from the new folder takes
    its place if it has the sweep, since a copied project is a project of its own.
    """
    before, here = Path(sweep.folder), replace(sweep, folder=str(folder))
    tracking = sweep.facts.get("tracking")
    mlflow = tracking.get("mlflow") if isinstance(tracking, Mapping) else None
    uri = str(mlflow.get("uri") or "") if isinstance(mlflow, Mapping) else ""
    planned = sqlite_file(uri)
    if tracking is None or mlflow is None or planned is None or before == folder or not before.is_absolute():
        return here
    beside = Path(os.path.normpath(folder / os.path.relpath(planned, before)))
    if beside == planned or not beside.is_file() or (planned.exists() and not _has(beside, sweep.sweep_id)):
        return here
    log.warning("the sweep's folder used to be %s: its MLflow database is now %s, and not %s", before, beside, planned)
    settings = {**tracking, "mlflow": {**mlflow, "uri": sqlite_uri(beside, uri)}}
    return replace(here, facts={**sweep.facts, "tracking": settings})


def lost(uri: str) -> str | None:
    """The problem with a plan's database whose folder is gone; None where it can be used, or made."""
    database = sqlite_file(uri)
    if database is None or database.parent.is_dir():
        return None
    return f"the plan's MLflow database {database} is in a folder that no longer exists, and none is beside the sweep"


def follow_files(database: Path, location: str, expected: str) -> None:
    """Make the experiments and runs of a moved or copied database keep their files beside it again.

    `location` is where an experiment has its files, `expected` where it would have them were it made now. What lies
    elsewhere by somebody's choice stays there. Raises sqlite3.Error.
    """
    folder = f"/{FILES}/"
    (old, _, name), (new, _, expected_name) = location.rpartition(folder), expected.rpartition(folder)
    if not old.startswith("file:") or old == new or name != expected_name:
        return
    before, here = Path(unquote(old.removeprefix("file://")), FILES), database.parent / FILES
    if before.is_dir() and not here.is_dir():
        return  # the database went alone
    start = f"{old}{folder}"
    with contextlib.closing(sqlite3.connect(database, timeout=_PATIENCE_S)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (f"{new}{folder}", len(start) + 1, len(start), start),
            )
    log.warning("MLflow's database %s was moved: the files of its runs are in %s now", database, here)


def _has(database: Path, sweep_id: str) -> bool:
    """Whether the database has runs of the sweep."""
    query = "SELECT 1 FROM tags WHERE key = 'sweep_id' AND value = ? LIMIT 1"
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_S)
        ) as connection,
    ):
        return connection.execute(query, (sweep_id,)).fetchone() is not None
    return False
