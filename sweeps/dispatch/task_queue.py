"""Trials that wait for nodes held by other jobs of the Ray cluster: where each waits, and the message about it."""

from __future__ import annotations

from sweeps.dispatch.fleet import Slot
from sweeps.dispatch.placing import Placing
from sweeps.dispatch.task_gate import Placements
from sweeps.dispatch.task_job import Job
from sweeps.dispatch.waiting import Turn, Waiting
from sweeps.wording import counted, listed

_MOST_NAMED = 3


def behind_others(waiting: Waiting, placing: Placing, placements: Placements) -> tuple[Turn, Slot] | None:
    """Return the next trial that can start nowhere, and a node where it may wait until what others run there ends.

    Ray gives a node to those that wait for it in turn, so a trial has to wait there too, or two sweeps would not share
    a cluster: the first would never leave a gap. Only one trial waits at a time on a node, and it can be taken back.
    """
    taken = {job.slot for job in placements.queued()}
    for turn in waiting.heads():
        for slot in placing.held_up(turn):
            if slot not in taken:
                return turn, slot
    return None


def movable(waiting: Waiting, placing: Placing, placements: Placements) -> list[Job]:
    """Return the trials that wait behind others and could start on another node now, at most one per such node.

    A calibration belongs to its node. It is given up if others hold part of that node and a trial has room beside them.
    """
    jobs: list[Job] = []
    taken: set[Slot] = set()
    for job in placements.queued():
        if job.turn is None:
            if any(placing.fits_beside(turn, job.slot) for turn in waiting.heads()):
                jobs.append(job)
            continue
        free = [slot for slot in placing.room(job.turn) if slot is not job.slot and slot not in taken]
        if free:
            jobs.append(job)
            taken.add(free[0])
    return jobs


def held_up(waiting: Waiting, placing: Placing, placements: Placements) -> str:
    """Return a message about what the trials that cannot start wait for; empty: others hold nothing up."""
    turns = waiting.heads()
    queued = placements.queued()
    jobs = [job for job in queued if job.turn]
    slots = {slot for turn in turns for slot in placing.held_up(turn)} | {job.slot for job in queued}
    if not slots:
        return ""
    names = sorted(slot.node.name for slot in slots)
    count = len(waiting) + len(jobs)
    trials = [turn.trial for turn in turns] + [job.trial for job in jobs]
    labels = ", ".join(dict.fromkeys(trial.device.label for trial in trials))
    waiting_trials = f"{counted(count, 'trial')} ({labels}) wait{'s' * (count == 1)}"
    nodes = f"{counted(len(names), 'node')}: {listed(names, _MOST_NAMED)}"
    return f"{waiting_trials}: other jobs of the cluster hold {nodes}"
