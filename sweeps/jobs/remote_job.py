"""A batch job that sees nothing of this machine's files: it gets the command line again."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nets import custom
from sweeps.errors import UsageError
from sweeps.jobs import elsewhere, submitted
from sweeps.jobs.job import BatchJob, Job, Order, unprintable
from sweeps.typed import command_line
from tracking.sinks.mlflow.client import DEFAULT_URI
from tracking.text.redact import redact

_SWEEP_ID = re.compile(r"^(\d{8}-\d{6}-[0-9a-f]{6})$")
"""A sweep's id; the sweep's folder on a cluster is named after its job."""
_JOB_NAME = re.compile(r"sweep-\d{8}-\d{6}-[0-9a-f]{6}$")


@dataclass
class RemoteJob(BatchJob):
    """A batch system that does not see this machine's files."""

    shares_files: ClassVar[bool] = False
    carries_modules: ClassVar[bool] = False
    """Whether modules in the current folder travel with the job."""

    def remote_job(self, request: command_line.Request) -> Job:
        """Return the job that runs the request. Raises UsageError for one that it cannot hold."""
        raise NotImplementedError

    def config_problems(self, values: Mapping[str, Any]) -> list[str]:
        problems = super().config_problems(values) + elsewhere.problems(values)
        if values["resume"] == "latest":
            problems.append(f"resume: expected a sweep's name or folder on the cluster={self.name}. Received: latest.")
        if redact(uri := values["tracking"]["uri"]) != uri:
            problems.append(
                "tracking.uri: expected an address without a password, which the cluster would show to others."
            )
        return problems

    def target_problems(self, target: str, arguments: Mapping[str, Any]) -> list[str]:
        name = target.partition(".")[0]
        travels = self.carries_modules and (Path(f"{name}.py").is_file() or Path(name).is_dir())
        can_be_checked = travels or name in custom.OF_PYTHON or "." not in target
        return custom.check(target, arguments) if can_be_checked else []

    def job(self, order: Order) -> Job:
        values, arguments, sweep = order
        uri = values["tracking"]["uri"]
        passed_on = command_line.for_job(arguments)
        texts = {"resume": values["resume"] or "", **{word.partition("=")[0]: word for word in passed_on}}
        if problems := [*unprintable(texts), *elsewhere.option_problems(arguments.words, self.name)]:
            raise UsageError(problems)
        resumed = None if values["resume"] is None else _SWEEP_ID.sub(r"sweep-\1", values["resume"])
        chosen = arguments.keys & {"tracking", "tracking.uri"}
        request = command_line.Request(
            name=_another_name(resumed or "") if sweep is None else submitted.job_name(sweep.sweep_id),
            arguments=passed_on,
            resume=resumed,
            uri=None if uri == DEFAULT_URI else uri,
            keeps_uri=sweep is None and not chosen,
            targets=[name for trial in (sweep.trials if sweep else ()) for name in trial.own_code],
            environment=submitted.environment(sweep) if sweep is not None else {},
        )
        return self.remote_job(request)


def _another_name(resumed: str) -> str:
    """Return the name of a job that resumes a sweep on the cluster, where the earlier job's name may still be taken."""
    earlier = _JOB_NAME.search(resumed)
    return f"{earlier[0]}-{uuid.uuid4().hex[:6]}" if earlier else f"sweep-{uuid.uuid4().hex[:12]}"
