from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.tasks.pictures import image_paths
from sweeps.tasks.pictures.dataset import DataError


def test_files_folders_and_patterns(shapes: Path) -> None:
    one = str(shapes / "ring" / "003.jpg")
    assert image_paths.matching(one) == [Path(one)]
    assert len(image_paths.matching(str(shapes))) == 10
    assert len(image_paths.matching(str(shapes / "*" / "00[12].jpg"))) == 4
    assert len(image_paths.matching([one, str(shapes / "**" / "003.jpg")])) == 2
    with pytest.raises(DataError) as caught:
        image_paths.matching([one, str(shapes / "*.gif"), str(shapes / "none.jpg")])
    assert len(caught.value.problems) == 2
    (shapes / "nothing").mkdir()
    with pytest.raises(DataError, match="expected pictures in this folder"):
        image_paths.matching(str(shapes / "nothing"))
