"""Makes sinks by name: settings from the configuration, and sinks from settings.

Settings are what a plan keeps under `facts["tracking"]`, so that a later `sync` finds the same sinks:
`{"csv": {}, "mlflow": {"uri": ..., "experiment": ...}}`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tracking.sink import Sink
from tracking.sinks.csv_table import CsvSink
from tracking.sinks.mlflow.client import DEFAULT_EXPERIMENT, DEFAULT_URI, absolute_uri
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.parquet_table import ParquetSink
from tracking.text.printable import printable
from tracking.text.redact import is_redacted, redact

Settings = dict[str, dict[str, Any]]

# MLflow comes last, because it also keeps the files that the others make.
SINKS: Mapping[str, Callable[..., Sink]] = {"csv": CsvSink, "parquet": ParquetSink, "mlflow": MlflowSink}

_IN_MEMORY = re.compile(r"sqlite(\+\w+)?:(//)?/?(:memory:)?(\?.*)?")


class SettingsError(ValueError):
    """Settings that name no sink, or are incomplete."""


def settings(tracking: Mapping[str, Any]) -> Settings:
    """The settings for a `tracking` configuration: `sinks`, and MLflow's `uri` and `experiment`.

    A relative SQLite path is taken from the current folder; a blank address is none. Raises SettingsError.
    """
    names = tracking.get("sinks", ())
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise SettingsError(f"expected tracking.sinks to be a list such as [mlflow,csv]. Received: {names!r}")
    chosen: Settings = {_known(str(name)): {} for name in names}
    if "mlflow" in chosen:
        chosen["mlflow"] = {
            "uri": _address(_text(tracking, "uri", DEFAULT_URI)),
            "experiment": _text(tracking, "experiment", DEFAULT_EXPERIMENT),
        }
    return chosen


def storable(chosen: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The settings without passwords, for a plan."""
    return {
        name: {key: redact(value) if isinstance(value, str) else value for key, value in arguments.items()}
        for name, arguments in chosen.items()
    }


def stored(facts: Mapping[str, Any]) -> Settings:
    """The settings in a plan's facts. Raises SettingsError for anything that is none."""
    kept = facts.get("tracking", {})
    if not isinstance(kept, Mapping) or not all(
        isinstance(arguments, Mapping) and all(isinstance(value, str) for value in arguments.values())
        for arguments in kept.values()
    ):
        raise SettingsError(f"expected the plan to keep the settings of {', '.join(SINKS)}. Received: {kept!r:.200}")
    return {_known(str(name)): dict(arguments) for name, arguments in kept.items()}


def make_sinks(chosen: Mapping[str, Mapping[str, Any]]) -> list[Sink]:
    """The sinks that the settings name. Raises SettingsError, also where a password was taken out."""
    for name, arguments in chosen.items():
        _known(name)
        if is_redacted(str(arguments.get("uri", ""))):
            raise SettingsError(
                f"the address {arguments['uri']} is kept without its password; "
                "give it with --uri or in the environment variable MLFLOW_TRACKING_URI"
            )
    try:
        return [make(**chosen[name]) for name, make in SINKS.items() if name in chosen]
    except TypeError as error:
        raise SettingsError(f"expected the settings of {', '.join(SINKS)}. Received: {storable(chosen)}") from error


def _known(name: str) -> str:
    if name in SINKS:
        return name
    near = difflib.get_close_matches(name, SINKS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SettingsError(f"expected tracking.sinks among {', '.join(sorted(SINKS))}. Received: {name!r}{hint}")


def _address(uri: str) -> str:
    try:
        urlsplit(uri)
    except ValueError as error:
        raise SettingsError(f"expected tracking.uri to be an address. Received: {uri!r} ({error})") from None
    if "\0" in uri:
        raise SettingsError(f"expected tracking.uri to be an address. Received: {uri!r}")
    address = absolute_uri(uri)
    if address != address.encode(errors="replace").decode():
        raise SettingsError(
            f"expected a place for MLflow whose name is text in this locale. Received: {printable(address)}; set "
            "LC_ALL=C.UTF-8, name a place with tracking.uri=sqlite:////PATH/mlflow.db, or set tracking=csv"
        )
    if _IN_MEMORY.fullmatch(address):
        raise SettingsError(
            f"expected a place for MLflow that outlives the sweep. Received: {address}, a database in memory; "
            "name a file with tracking.uri=sqlite:////PATH/mlflow.db, or set tracking=csv"
        )
    return address


def _text(tracking: Mapping[str, Any], key: str, default: str) -> str:
    value = tracking.get(key)
    if isinstance(value, str):
        value = value.strip()
    if value is None or (key == "uri" and not value):
        return default
    if not isinstance(value, str) or not value:
        raise SettingsError(f"expected tracking.{key} to be text such as {default!r}. Received: {value!r}")
    return value
