"""The pictures of a comparison, of three passes and several optimizers."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.support.records import make_result
from tracking.analysis.verdicts import compare, pair_up
from tracking.plots import comparison_plots
from tracking.record import PASSES, Result


def side(factor: float, seed: int) -> list[Result]:
    return [
        make_result(batch=batch, passes=PASSES, optimizer={"name": name}, mean=factor * batch, noise=0.001, seed=seed)
        for name, factor in (("sgd", factor), ("adam", 2 * factor))
        for batch in (1, 2)
    ]


def test_each_pass_has_its_pictures(tmp_path: Path) -> None:
    comparisons = compare(pair_up(side(0.1, 1), side(0.2, 2)).pairs, 0.02)
    assert len(comparisons) == 4 * len(PASSES)
    drawn = [
        comparison_plots.draw_ratios(comparisons, 0.02, tmp_path / "compare.png"),
        *comparison_plots.draw_across(comparisons, tmp_path / "compare.png"),
    ]
    kinds = [f"compare_{kind}_{name}" for name in PASSES for kind in ("time", "speedup")]
    assert [path.stem for path in drawn] == ["compare", *kinds]
    for path in drawn:
        with Image.open(path) as picture:
            assert picture.width > 500


def test_a_speedup_is_the_mean_of_trials_that_repeat_the_work() -> None:
    comparisons = compare(pair_up(side(0.1, 1), side(0.2, 2)).pairs, 0.02)
    for name, lines in (("forward", 1), ("train_step", 2)):
        found = comparison_plots._speedups([each for each in comparisons if each.pass_name == name])
        assert len(found) == lines
        for point in (point for line in found for point in line.points):
            assert abs(point.middle - 0.5) < 0.01
            assert point.low < point.middle < point.high
