from __future__ import annotations

from dataclasses import replace

import pytest

from sweeps.dispatch.waiting import Turn, Waiting
from tracking.record import Trial
from tracking.schema.device import Device

ONE = Trial(model="tiny", batch=1, device=Device(cpus=1))
ALL = Trial(model="tiny", batch=1)


def test_the_first_of_each_device_are_next_in_order() -> None:
    waiting = Waiting([replace(ONE, batch=1), replace(ONE, batch=2), replace(ALL, batch=3)])
    assert [turn.trial.batch for turn in waiting.heads()] == [1, 3]
    first = waiting.heads()[0]
    waiting.remove(first)
    assert [turn.trial.batch for turn in waiting.heads()] == [2, 3]
    with pytest.raises(ValueError, match="expected the first of its queue"):
        waiting.remove(first)
    waiting.add(first)
    waiting.add_first(Turn(trial=replace(ALL, batch=9), order=0))
    assert [turn.trial.batch for turn in waiting.heads()] == [9, 2]
    assert len(waiting) == 4
    while waiting:
        waiting.remove(waiting.heads()[0])
    assert waiting.heads() == []
