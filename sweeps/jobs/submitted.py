"""What a job on another machine knows of the command that submitted it: the sweep's id, and how it was typed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tracking.record import Sweep

VARIABLE = "SWEEPS_SUBMITTED"
"""Of the job's environment."""


class Submitted(NamedTuple):
    """The sweep as the command that submitted it knows it."""

    sweep_id: str
    command: str


def job_name(sweep_id: str) -> str:
    """The job's name, which its sweep's folder on the cluster bears as well."""
    return f"sweep-{sweep_id}"


def environment(sweep: Sweep) -> dict[str, str]:
    """What the job's environment is given for `here`."""
    return {VARIABLE: json.dumps({"sweep_id": sweep.sweep_id, "command": sweep.command})}


def here(folder: Path) -> Submitted | None:
    """What this job knows of a new sweep in `folder`; None: this is no job, or it begins another sweep by itself."""
    try:
        said = json.loads(os.environ.get(VARIABLE, ""))
    except ValueError:
        return None
    if not isinstance(said, Mapping):
        return None
    sweep_id, command = said.get("sweep_id"), said.get("command")
    if not isinstance(sweep_id, str) or not isinstance(command, str) or folder.name != job_name(sweep_id):
        return None
    return Submitted(sweep_id, command)
