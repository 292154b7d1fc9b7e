"""Who owns a sweep's folder, and whether an address in its plan may be sent this user's results and credentials.

A plan decides what `resume=` runs and where `sync` sends. It is trusted if it belongs to this user, to root or to the
owner of this program, who could change the program as well. If it belongs to anybody else, or is not in the folder that
it names while there are credentials to send, the user has to agree: on a terminal, or else by an option.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tracking.folder.journal import PLAN, RESULTS
from tracking.folder.trial_folder import trials_folder
from tracking.record import Sweep
from tracking.sinks.mlflow.client import given_address
from tracking.text.printable import printable
from tracking.text.redact import redact

_SECRETS = (
    *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_AUTH"),
    *("MLFLOW_TRACKING_AWS_SIGV4", "PGPASSWORD", "MYSQL_PWD"),
)
"""Variables with credentials for any server: they name none themselves."""
_SECRET_FILE = ".mlflow/credentials"
_RAY_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_RAY_TOKEN_FILE = ".ray/auth_token"
_HERE = ("", "sqlite", "file")
"""Schemes of addresses that lead to no server."""
_PLAIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[\w.~!$&'()*+,;=%:-]*@)?(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d+)?(?:/[^\s\\?#]*)?",
    re.ASCII | re.IGNORECASE,
)
"""Addresses that every parser reads alike: to some a backslash ends the host, and a query may name another one."""


def stranger(folder: Path) -> str:
    """The other owner of the folder, its plan, its journal or its trials' folder; empty: there is none."""
    trusted = {os.geteuid(), 0, Path(__file__).stat().st_uid}
    for path in (folder, folder / PLAN, folder / RESULTS, trials_folder(folder)):
        for status in _statuses(path):
            if status.st_uid not in trusted:
                return _user(status.st_uid)
    return ""


def misgivings(sweep: Sweep, folder: Path, uri: str | None) -> str:
    """The reason not to send to an address that only the plan in this folder names; empty: there is none.

    `sweep` is the plan as it was read; `uri` None: nothing is sent.
    """
    if uri is None or is_named(uri):
        return ""
    if owner := stranger(folder):
        return f"{folder} belongs to {owner}, and its plan names {shown(uri)}, where this user's results would go"
    return _of_a_copy(sweep, folder, shown(uri), credentials()) if _is_a_server(uri) else ""


def misgivings_of_ray(sweep: Sweep, folder: Path, address: str | None) -> str:
    """The reason not to join a Ray cluster that only the plan in this folder names; empty: there is none."""
    if address in (None, "auto", os.environ.get("RAY_ADDRESS")):
        return ""
    tokens = [name for name in _RAY_TOKENS if os.environ.get(name)]
    if os.path.lexists(Path("~", _RAY_TOKEN_FILE).expanduser()):
        tokens.append(f"~/{_RAY_TOKEN_FILE}")
    return _of_a_copy(sweep, folder, f"the Ray cluster {address}", tokens)


def _of_a_copy(sweep: Sweep, folder: Path, where: str, secrets: list[str]) -> str:
    if not secrets or lies_where_it_says(sweep, folder):
        return ""
    return (
        f"{folder} was copied or moved there from {sweep.folder}, and its plan names {where}, where "
        f"{' and '.join(secrets)} would go"
    )


def is_named(uri: str) -> bool:
    """Whether the user's own MLFLOW_TRACKING_URI leads to the same server."""
    known = given_address()
    if known is None:
        return False
    server = _server(known)
    return known == uri or (server is not None and server == _server(uri))


def shown(uri: str) -> str:
    """The address without its secrets, with a warning where the host it shows need not be the one it leads to."""
    unclear = _is_a_server(uri) and _server(uri) is None
    return redact(uri) + (" (which may lead to another host than it seems to)" if unclear else "")


def credentials() -> list[str]:
    """This user's credentials for MLflow servers, by the name of the variable or file."""
    names = [name for name in _SECRETS if os.environ.get(name)]
    if os.path.lexists(Path("~", _SECRET_FILE).expanduser()):
        names.append(f"~/{_SECRET_FILE}")
    return names


def agreed(question: str) -> bool:
    """Ask the user; False without a terminal."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{printable(question)}. Go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _statuses(path: Path) -> list[os.stat_result]:
    """Of a link, its own and its target's."""
    statuses = []
    for look in (path.lstat, path.stat):
        with contextlib.suppress(OSError):
            statuses.append(look())
    return statuses


def _user(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"


def _server(uri: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port; None for an address without them, or one that parsers read differently."""
    if not _PLAIN.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        return (parts.scheme, parts.hostname, parts.port) if parts.hostname else None
    except ValueError:
        return None


def _is_a_server(uri: str) -> bool:
    """Whether the address seems to lead to anything but files of this machine."""
    try:
        return urlsplit(uri).scheme.partition("+")[0] not in _HERE
    except ValueError:
        return True


def lies_where_it_says(sweep: Sweep, folder: Path) -> bool:
    """Whether the folder that a plan names is the one that it was read from."""
    named = Path(sweep.folder)
    # /proc/self/cwd and the like lie wherever one is.
    if not named.is_absolute() or ".." in named.parts or sweep.folder.startswith(("/proc/", "/dev/")):
        return False
    try:
        return named == folder.absolute() or named.samefile(folder)
    except (OSError, ValueError):
        return False
