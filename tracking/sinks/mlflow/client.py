"""Access to MLflow: its import and environment, addresses, and the wording of its errors."""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
from collections.abc import Iterable

from tracking.sinks.mlflow.database import sqlite_file, sqlite_uri
from tracking.text.redact import redact, secrets_of

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "sweeps"
_FOREIGN = ("mlflow", "requests", "urllib3", "sqlalchemy", "sqlite3")
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
"""MLflow's variable for how long it waits for an answer, seconds."""

_LONGEST = 300
_PAGE = re.compile(r"<(style|script|head)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_ADVICE = re.compile(r"\b(run|use|set|install|upgrade|restore|try|please)\b", re.IGNORECASE)

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A retried POST may make a run twice. The outbox, or sync, sends again what a dead server did not take.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    TIMEOUT: "10",
    # PostgreSQL's variable for how long it tries to connect, seconds.
    "PGCONNECT_TIMEOUT": "10",
}


def given_address() -> str | None:
    """The address in MLFLOW_TRACKING_URI; None where it is not set, or blank."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or None


def preload() -> None:
    """Import mlflow, quietly; safe on a thread of its own before the first trial."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow.tracking", "tracking.plots.step_plots"):
        importlib.import_module(name)
    for name in ("mlflow", "alembic"):
        # It logs forty lines about making the tables of a new database.
        logging.getLogger(name).setLevel(logging.WARNING)
    # Whatever it logs with a traceback it raises too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def absolute_uri(uri: str) -> str:
    """A SQLite address whose relative path is made absolute, so that it names one file from everywhere."""
    database = sqlite_file(uri)
    return uri if database is None else sqlite_uri(database, uri)


def secrets(uri: str) -> set[str]:
    """The secrets that no message about this address may show: its own, and those that MLflow sends along."""
    sent = (os.environ.get(name, "") for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"))
    return secrets_of(uri) | set(filter(None, sent))


def of_mlflow(error: BaseException) -> bool:
    """Whether the exception means that MLflow, the network, the database or the disk failed."""
    return type(error).__module__.split(".")[0] in _FOREIGN or isinstance(error, OSError | ImportError)


def reason(error: BaseException, known: Iterable[str] = ()) -> str:
    """The error in one short sentence, without secrets, in the words of the network or database if that failed."""
    links: list[BaseException] = [error]
    for link in links:
        # What requests and MLflow wrap around it says where the request went, at great length.
        if isinstance(link, ConnectionError | TimeoutError | socket.gaierror):
            return f"no answer ({_short(link.strerror or str(link) or type(link).__name__, known)})"
        # What SQLAlchemy wraps around it is the statement, with all its values.
        if isinstance(driver := getattr(link, "orig", None), Exception):
            return f"{type(driver).__name__}: {_short(str(driver), known)}"
        if type(link).__name__ == "ResponseError":
            return f"the server fails ({_short(str(link), known)})"
        # `reason` and the first argument: what urllib3 gave up at, as a server's answer 500.
        causes = (link.__cause__, link.__context__, getattr(link, "reason", None), *link.args[:1])
        links += [cause for cause in causes if isinstance(cause, BaseException) and cause not in links]
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
    hint = "; install the database's driver for Python" if isinstance(error, ImportError) else ""
    return f"{type(error).__name__}: {_short(str(error), known)}{hint}"


def _short(message: str, known: Iterable[str]) -> str:
    """The message on one line: of a page, its text; of a long one, its beginning and what it says to do."""
    if "<html" in message.lower() or "<!doctype" in message.lower():
        message = _PAGE.sub(" ", message)
    line = " ".join(redact(message, known).split())
    if len(line) <= _LONGEST:
        return line
    kept, spare = "", ""
    for sentence in re.split(r"(?<=[.!?]) ", line):
        if len(kept) + len(sentence) > _LONGEST:
            spare = spare or (sentence if _ADVICE.search(sentence) else "")
            continue
        kept += f"{sentence} "
    kept = kept.strip() or f"{line[:_LONGEST]}…"
    return f"{kept} {spare[:_LONGEST]}".strip()
