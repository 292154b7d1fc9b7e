"""How values are written on a command line, and which words of a command a batch job or a resumed sweep takes over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeps.typed.arguments import Arguments, key_of
from sweeps.typed.keys import SETTINGS
from tracking.text import commands
from tracking.text.redact import redact

_PER_COMMAND = ("tracking", "rerun", "trust", *SETTINGS)
"""Keys that a command which resumes may set, and that it passes on to its job."""
IN_JOB = "SWEEPS_JOB"
"""Variable in the environment of a batch job that resumes a sweep: the sweep's id."""
_RESUMES = (*_PER_COMMAND, "timeout_s", "resume", "dry_run", "cluster", "hydra")
"""All keys that may accompany `resume=`."""
_REPLACED = re.compile(r"[+~]*(cluster|dry_run|resume|tracking\.uri|hydra\.(sweep|run)\.dir)(\.[\w.]+)?(@.*)?=")
"""Arguments that the job gets with other values."""
_PLAIN = re.compile(r"[\w:/.@%+-]+", re.ASCII)
_OF_ANOTHER_TYPE = re.compile(r"(?ai)null|true|false|[+-]?(inf|nan|[\d_.]+(e[+-]?[\d_]+)?)")
"""Text that Hydra would not read as text unless it is quoted."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a job runs that sees none of this machine's files."""

    name: str
    """The job's name; a new sweep's folder has it, too."""
    arguments: Sequence[str]
    """This command's, as `for_job` returns them."""
    resume: str | None = None
    """The folder, or its name, of a sweep on the cluster that is resumed."""
    uri: str | None = None
    """MLflow's address; None: a database beside the sweeps on the cluster."""
    keeps_uri: bool = False
    """Whether a resumed sweep's own address of MLflow counts, and not `uri`."""
    targets: Sequence[str] = ()
    """Dotted names of the user's own callables."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables by which the job knows of this command."""

    def tracking(self, database: str) -> list[str]:
        """Return the argument with MLflow's address, `database` without one; none where the plan's own counts."""
        return [] if self.keeps_uri else [f"tracking.uri={text(self.uri or database)}"]


def for_job(arguments: Arguments) -> list[str]:
    """Return the words that a job on a cluster of its own takes over unchanged."""
    return [word for word in arguments.words if not _REPLACED.match(word)]


def resuming(words: Sequence[str]) -> list[str]:
    """Return those of a job's words that count when the job resumes its own sweep."""
    return [word for word in words if key_of(word).partition(".")[0] in (*_PER_COMMAND, "timeout_s")]


def fixed_by_plan(arguments: Arguments) -> list[str]:
    """Return the words that set what the plan of a resumed sweep has already settled."""
    return [word for word, key in arguments.overrides if re.split("[./]", key)[0] not in _RESUMES]


def as_composed(values: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return arguments with which a resumed sweep has this composed config's settings, and variables for secrets."""
    flat: dict[str, Any] = {}
    for key in (*_PER_COMMAND, "timeout_s") if values["resume"] is not None else _PER_COMMAND:
        value = values[key]
        flat |= {f"{key}.{leaf}": value[leaf] for leaf in value} if isinstance(value, Mapping) else {key: value}
    environment, secret = {}, []
    if redact(flat["tracking.uri"]) != flat["tracking.uri"]:
        environment["MLFLOW_TRACKING_URI"] = flat.pop("tracking.uri")
        # The key is set all the same, or the address in the sweep's plan would count.
        secret = ["tracking.uri=${oc.env:MLFLOW_TRACKING_URI}"]
    return [*(f"{key}={text(value)}" for key, value in flat.items() if value is not None), *secret], environment


def resuming_command(folder: str) -> str:
    """Return the command that resumes the sweep in this folder, as a shell takes it."""
    return commands.python("sweeps/run.py", f"resume={text(folder)}")


def text(value: Any) -> str:
    """Return a value as Hydra's command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, str) and (_OF_ANOTHER_TYPE.fullmatch(value) or not _PLAIN.fullmatch(value)):
        # ${ would begin an interpolation, where OmegaConf halves backslashes. Hydra halves those before a quote only.
        value = re.sub(r"(\\*)\$\{", lambda match: f"{match[1] * 2}\\${{", value)
        quoted = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + match[2].replace("'", "\\'"), value)
        return f"'{quoted}'"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{text(key)}:{text(inner)}' for key, inner in value.items())}}}"
    return "null" if value is None else str(value)
