"""`cluster=slurm`: a sweep as one Slurm job, whose nodes share this machine's files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sweeps.errors import UsageError
from sweeps.jobs.folder_job import Resumption, planned
from sweeps.jobs.job import HandedOver, Job, PlannedNode, RefusedError, Terminal
from sweeps.jobs.slurm import batch_script, submission
from sweeps.jobs.slurm.options import COMMAND, SCRIPT, Options, folder_problems
from sweeps.machine import host
from sweeps.machine.node import Node
from sweeps.typed import command_line
from tracking.folder.journal import JournalError
from tracking.record import Sweep
from tracking.text.printable import printable


@dataclass
class Slurm(Options):
    """One allocation, in which Ray schedules the trials."""

    submits_with: ClassVar[str | None] = COMMAND
    checks_imports: ClassVar[bool] = True

    @property
    def has_this_environment(self) -> bool:
        has_another = self.container or self.venv or self.setup
        return not (has_another or (self.gpus and not host.gpu_facts()))

    def node(self) -> Node:
        return PlannedNode(cpus=self.cpus or sys.maxsize, gpus=self.gpus, name="a node of cluster=slurm")

    def sweep_problems(self, sweep: Sweep) -> list[str]:
        return folder_problems(sweep.sweep_id, Path(sweep.folder))

    def folder_job(self, resumption: Resumption) -> Job:
        sweep = resumption.sweep
        folder = Path(sweep.folder)
        arguments = resumption.settings
        text = batch_script.text(self, sweep_id=sweep.sweep_id, folder=folder, cwd=Path.cwd(), arguments=arguments)
        return SlurmJob(self, sweep, text, resumption.environment)


@dataclass(frozen=True)
class SlurmJob:
    """A batch script that is ready to be submitted."""

    options: Slurm
    sweep: Sweep
    text: str
    environment: Mapping[str, str]
    """Secret variables of the job, which are not written into its script."""

    def submit(self, terminal: Terminal) -> HandedOver:
        options, folder = self.options, self.sweep.folder
        name = f"sweep-{self.sweep.sweep_id}"
        try:
            with planned(self.sweep, SCRIPT, self.text) as path:
                job = submission.submit(path, options, name, os.environ, self.environment)
        except (JournalError, OSError) as error:
            raise UsageError([f"expected a results folder that can be written to. Received: {error}"]) from error
        except RefusedError as error:
            raise UsageError([str(error)]) from error
        for remark in job.remarks.splitlines():
            terminal.warn(printable(remark))
        if sentence := submission.obstacle(job, os.environ):
            terminal.warn(sentence)
        if options.parsable:
            terminal.text(f"{job}\n")
            return HandedOver(0, job.number)
        state, stop = f"scontrol {job.where}show job {job.number}", f"scancel {job.where}{job.number}"
        terminal.say(f"Job      {job.number}; `{state}` shows its state, `{stop}` stops it")
        terminal.say(f"Output   {folder}/slurm-{job.number}.out")
        terminal.say(f"Results  {folder}; `{command_line.resuming_command(folder)}` runs whatever is left")
        return HandedOver(0, job.number)
