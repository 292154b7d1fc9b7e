"""The id and the command line of a sweep, which the command that submits a job passes on to it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tracking.record import Sweep

VARIABLE = "SWEEPS_SUBMITTED"
"""The variable in the job's environment."""


class Submitted(NamedTuple):
    """The sweep as the submitting command knows it."""

    sweep_id: str
    command: str


def job_name(sweep_id: str) -> str:
    """Return the job's name, which is also that of its sweep's folder on the cluster."""
    return f"sweep-{sweep_id}"


def environment(sweep: Sweep) -> dict[str, str]:
    """Return the variables that the job needs for `here`."""
    return {VARIABLE: json.dumps({"sweep_id": sweep.sweep_id, "command": sweep.command})}


def here(folder: Path) -> Submitted | None:
    """Return what this job was given for a new sweep in `folder`; None: this is no job, or another sweep of its own."""
    try:
        values = json.loads(os.environ.get(VARIABLE, ""))
    except ValueError:
        return None
    if not isinstance(values, Mapping):
        return None
    sweep_id, command = values.get("sweep_id"), values.get("command")
    if not isinstance(sweep_id, str) or not isinstance(command, str) or folder.name != job_name(sweep_id):
        return None
    return Submitted(sweep_id, command)
