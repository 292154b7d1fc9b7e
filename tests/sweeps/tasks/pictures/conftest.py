from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.picture_data import make_shapes


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return make_shapes(tmp_path / "shapes", 5, ("disc", "ring"))
