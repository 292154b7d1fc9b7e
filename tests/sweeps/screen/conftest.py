"""A wide output, and a sweep of three trials of which two have a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.recorder import Recorder
from tests.support.records import make_result, make_sweep
from tracking.sinks.outbox import Outbox


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    results = [make_result(batch=1), make_result(batch=2), make_result(batch=4, status="oom")]
    made = Recorder(make_sweep(results, folder=tmp_path), Outbox([]))
    for result in results[:2]:
        made.record(result)
    return made
