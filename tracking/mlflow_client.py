"""How MLflow is reached: its import and environment, addresses, and what its errors say."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from pathlib import Path

from tracking.redact import redact

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "sweeps"
_SQLITE = "sqlite:///"
FOREIGN = ("mlflow", "requests", "urllib3", "sqlalchemy")
"""Packages whose exceptions mean that MLflow, the network or the database failed."""
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
"""MLflow's own name for how long it waits for an answer, seconds."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A retried POST may make a run twice. What a dead server did not take is sent again by the outbox, or by sync.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    TIMEOUT: "10",
}


def preload() -> None:
    """Import mlflow, quietly; a driver may do it on a thread of its own before the first trial."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow.tracking", "tracking.step_plot"):
        importlib.import_module(name)
    for name in ("mlflow", "alembic"):
        # Making the tables of a new database is told in forty lines otherwise.
        logging.getLogger(name).setLevel(logging.WARNING)


def absolute_uri(uri: str) -> str:
    """A SQLite address whose relative path is made absolute, so that it names one file from everywhere."""
    database = sqlite_file(uri)
    return uri if database is None else f"{_SQLITE}{database}"


def sqlite_file(uri: str) -> Path | None:
    """The file that a SQLite address names; None for another address."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def reason(error: BaseException) -> str:
    """One short sentence without passwords: the network's own words where it was the network."""
    links: list[BaseException] = [error]
    for link in links:
        # What requests and MLflow wrap around it says where the request went, at great length.
        if isinstance(link, ConnectionError | TimeoutError | socket.gaierror):
            return f"no answer ({link.strerror or str(link) or type(link).__name__})"
        links += filter(None, (link.__cause__, link.__context__))
    hint = "; install the database's driver for Python" if isinstance(error, ImportError) else ""
    return f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:300]}{hint}"
