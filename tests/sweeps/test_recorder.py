from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.errors import UsageError
from sweeps.recorder import Recorder
from tests.support.records import make_result, make_sweep
from tracking.sinks.outbox import Outbox


def test_a_folder_that_another_sweep_took_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    result = make_result()
    sweep = make_sweep([result], tmp_path)
    first = Recorder(sweep, Outbox([]))
    first.record(result)
    first.journal.close()
    plan = (tmp_path / "plan.json").read_bytes()
    with pytest.raises(UsageError) as caught:
        Recorder(replace(sweep, sweep_id="another"), Outbox([]))
    assert "which holds a sweep" in caught.value.problems[0]
    assert (tmp_path / "plan.json").read_bytes() == plan
    again = Recorder(sweep, Outbox([]))  # the lock is free, and the sweep may go on
    assert list(again.results) == [result.trial_id]
    again.journal.close()
    (tmp_path / "plan.json").unlink()
    with pytest.raises(UsageError, match="holds a sweep"):
        Recorder(replace(sweep, sweep_id="another"), Outbox([]))
