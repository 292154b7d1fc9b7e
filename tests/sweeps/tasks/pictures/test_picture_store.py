from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sweeps.process.project import ROOT
from sweeps.tasks.pictures import picture_store
from tests.support.picture_data import picture


@pytest.mark.parametrize("on_disk", [False, True])
def test_pictures_are_found_by_number(on_disk: bool, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    store = picture_store.create(tmp_path / "a.cache" if on_disk else True, 5, (4, 6, 3))
    assert store is not None
    store.put(np.array([3, 0]), images[[3, 0]])
    store.put(np.array([1, 2, 4]), images[[1, 2, 4]])
    for number in (4, 0, 2, 3, 1):
        np.testing.assert_array_equal(store.get(number), images[number])
    store.close()


def test_without_a_cache_there_is_no_store() -> None:
    assert picture_store.create(False, 5, (4, 6, 3)) is None


def test_a_disk_without_room_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"expected room for 3000000000000000 bytes of decoded pictures\. Received: "):
        picture_store.create(tmp_path / "a.cache", 10**9, (1000, 1000, 3))
    assert list(tmp_path.iterdir()) == []


GROWTH = """
import sys
from pathlib import Path
from sweeps.tasks.pictures.dataset import Example
from sweeps.tasks.pictures.pipeline import Pipeline

def resident_mb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024

few = Pipeline([Example(Path(sys.argv[1]), 0)] * 8, (128, 128), fit="stretch", batch=8, parallel=2, seed=1)
few.fill()
list(few.epoch(1))
many = Pipeline([Example(Path(sys.argv[1]), 0)] * 3000, (128, 128), fit="stretch", batch=8, parallel=2, seed=1,
                cache=Path(sys.argv[2]))
before = resident_mb()
many.fill()
print(max(resident_mb() - before for _ in many.epoch(1)))
"""


def test_pictures_on_disk_take_no_memory(tmp_path: Path) -> None:
    picture("disc", 0).save(tmp_path / "a.jpg")
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path / "a.jpg"), str(tmp_path / "a.cache")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    size_mb = 3000 * 128 * 128 * 3 / 2**20
    assert float(done.stdout.split()[-1]) < size_mb / 2
