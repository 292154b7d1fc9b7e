"""Trials and the nodes that other jobs of the Ray cluster hold: which trial waits where, and what the user hears."""

from __future__ import annotations

from sweeps.fleet import Fleet, Held, Slot, Turn, Waiting
from sweeps.ray_gate import Placements
from sweeps.ray_outcome import Job
from tracking.record import Device, Trial

_NOBODY = Held()
_MOST_NAMED = 3


def behind_others(waiting: Waiting, fleet: Fleet, placements: Placements) -> tuple[Turn, Slot] | None:
    """The next trial that can start nowhere, and a node where it may wait for what others run there to end.

    Ray gives a node to those that wait for it in turn, so a trial has to wait there as well, or two sweeps would not
    share a cluster: the first would never leave a gap. There is one at a time on a node, and it can be taken back.
    """
    for turn in waiting.heads():
        for slot in _held_up(turn.trial.device, fleet):
            if not placements.queued(slot):
                return turn, slot
    return None


def movable(placements: Placements, fleet: Fleet) -> list[Job]:
    """The trials that wait behind others and could start on another node now, no more of them than there are nodes."""
    jobs: list[Job] = []
    taken: set[Slot] = set()
    for job in placements.queued():
        # A calibration is one of its node.
        free = [slot for slot in fleet.room(job.trial.device) if slot is not job.slot and slot not in taken]
        if job.turn is not None and free:
            jobs.append(job)
            taken.add(free[0])
    return jobs


def held_up(waiting: Waiting, fleet: Fleet, placements: Placements) -> str:
    """What the trials that cannot start wait for, in words; empty where others hold nothing up."""
    jobs = [job for job in placements.queued() if job.turn]
    slots = [slot for turn in waiting.heads() for slot in _held_up(turn.trial.device, fleet)]
    names = sorted({slot.node.name for slot in [*slots, *(job.slot for job in jobs)]})
    if not names:
        return ""
    count = len(waiting) + len(jobs)
    labels = [turn.trial.device.label for turn in waiting.heads()] + [job.trial.device.label for job in jobs]
    trials = f"{count} trial{'s' * (count != 1)} ({', '.join(dict.fromkeys(labels))}) wait{'s' * (count == 1)}"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    nodes = f"{len(names)} node{'s' * (len(names) != 1)}"
    return f"{trials}: other jobs of the cluster hold {nodes}: {', '.join(names[:_MOST_NAMED])}{more}"


def uncalibrated(trial: Trial, slot: Slot) -> bool:
    """Whether a trial is not worth waiting until others are gone from the node, where it needs only a part of it."""
    whole = trial.device.exclusive_node or slot.node.cores_for(trial.device) == slot.node.cpus
    return bool(slot.held.cpus) and not whole


def _held_up(device: Device, fleet: Fleet) -> list[Slot]:
    """The nodes that a trial on `device` could start on if others held nothing of them."""
    held_up = []
    for slot in fleet.able(device):
        keep = 0 if slot.needs_all(device) else fleet.keeps(slot)
        if slot.held and slot.has_room(device, keep, held=_NOBODY) and not slot.has_room(device, keep):
            held_up.append(slot)
    return held_up
