"""Hands a sweep over to a batch system, after every check that is possible on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.errors import UsageError
from sweeps.jobs.job import BatchJob, HandedOver, Order, Terminal
from sweeps.plan.ahead import LookAhead
from tracking.record import Trial


def hand_over(
    cluster: BatchJob, order: Order, trials: Sequence[Trial], ahead: LookAhead, terminal: Terminal
) -> HandedOver:
    """Submit the sweep, whose remaining trials these are; with `dry_run`, only print the job.

    Raises UsageError if nothing was submitted, SweepError if that is unknown.
    """
    problems = ahead.net_problems(trials)
    not_imported = ahead.import_problems(trials) if cluster.checks_imports else []
    if cluster.has_this_environment:
        problems += not_imported
    if problems:
        raise UsageError(problems)
    if not cluster.has_this_environment:
        for sentence in not_imported:
            terminal.warn(f"{sentence} The job checks this again on its nodes before its first trial")
    job = cluster.job(order)
    if order.values["dry_run"]:
        terminal.text(job.text)
        return HandedOver(0, None)
    return job.submit(terminal)
