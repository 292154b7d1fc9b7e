from __future__ import annotations

import pytest

from sweeps.tasks.training.pace import Pace


def test_the_first_step_of_each_size_is_not_counted() -> None:
    pace = Pace(set())
    for images, stepped_s in ((8, 9.0), (8, 1.0), (8, 1.0), (3, 9.0)):
        pace.add(images, 1.0, stepped_s)
    assert pace.warm
    assert (pace.spent.images, pace.spent.waited_s, pace.spent.stepped_s) == (16, 2.0, 2.0)
    assert pace.spent.images_per_s == pytest.approx(4)


def test_it_is_counted_where_there_is_no_other() -> None:
    pace = Pace(set())
    pace.add(8, 1.0, 9.0)
    pace.add(3, 1.0, 0.0)
    assert not pace.warm
    assert pace.spent.images_per_s == pytest.approx(1)


def test_sizes_that_were_seen_before_are_counted_at_once() -> None:
    seen = {8}
    pace = Pace(seen)
    pace.add(8, 1.0, 1.0)
    pace.add(3, 1.0, 9.0)
    assert pace.spent.images_per_s == pytest.approx(4)
    assert seen == {3, 8}
