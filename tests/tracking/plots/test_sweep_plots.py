from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.support.records import make_result, make_sweep
from tracking.analysis.curves import Curve, Point, time_curves
from tracking.plots import sweep_plots
from tracking.plots.charts import draw_curves, draw_distributions
from tracking.record import PASSES, Result


def names(paths: list[Path]) -> set[str]:
    return {path.stem for path in paths}


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        return {tuple(colour) for colour in np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0).tolist()}


def axis(figure: Figure | None) -> tuple[list[str], str]:
    """The texts of the x axis's ticks, and the y axis's scale."""
    assert figure is not None
    figure.draw_without_rendering()
    axes = figure.axes[0]
    return [label.get_text() for label in axes.get_xticklabels()], axes.get_yscale()


def test_a_grid_gives_every_picture(tmp_path: Path) -> None:
    grid = [(device, batch) for device in ("cpu", "gpu") for batch in (1, 2, 4)]
    results = [make_result("vgg16", batch, device, mean=0.1 * batch, passes=PASSES) for device, batch in grid]
    written = sweep_plots.draw(make_sweep(results), results, tmp_path)
    assert names(written) >= {
        f"{kind}_{pass_name}"
        for kind in ("time_per_batch", "images_per_s", "speedup", "gflops_per_s", "distribution")
        for pass_name in PASSES
    } | {"peak_rss"}
    for path in written:
        assert path.parent == tmp_path / "plots"
        with Image.open(path) as image:
            assert image.width > 500
        assert len(colours(path)) > 20  # not blank


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], False),
        ([make_result(status="oom")], False),
        ([make_result(steps=1, passes=("forward",))], True),
        ([make_result(noise=0.0)], True),
        ([make_result(), make_result(batch=8, status="timeout")], True),
        ([make_result(r"<script>$\nosuch{$ & $", 4, "gpu $"), make_result("_a", 2), make_result("_b", 4)], True),
    ],
)
def test_few_or_odd_results_are_drawn_or_left_out(results: list[Result], expected: bool, tmp_path: Path) -> None:
    written = sweep_plots.draw(make_sweep(results), results, tmp_path)
    assert ("time_per_batch_forward" in names(written)) == expected
    assert not any(name.startswith("speedup") for name in names(written))


def test_ticks_are_the_batch_sizes_and_a_wide_range_is_logarithmic() -> None:
    wide = draw_curves(time_curves([make_result(batch=b) for b in (1, 3, 8, 64)], "forward"), "", "")
    assert wide is not None
    assert axis(wide)[0] == ["1", "3", "8", "64"]
    assert wide.axes[0].get_xscale() == "log"
    even = draw_curves(time_curves([make_result(batch=b) for b in range(1, 11)], "forward"), "", "")
    assert even is not None
    assert even.axes[0].get_xscale() == "linear"


def test_time_starts_at_zero_unless_the_values_span_too_much() -> None:
    near = draw_curves(time_curves([make_result(batch=b, mean=0.1 * b) for b in (1, 2, 4)], "forward"), "", "")
    assert near is not None
    assert near.axes[0].get_ylim()[0] == 0
    far = draw_curves(time_curves([make_result(batch=b, mean=0.1 * b) for b in (1, 64)], "forward"), "", "")
    assert axis(far)[1] == "log"


def test_one_legend_entry_a_line_and_failures_are_marked() -> None:
    results = [make_result(m, b) for m in ("vgg16", "alexnet") for b in (1, 2)] + [make_result(batch=4, status="oom")]
    figure = draw_curves(time_curves(results, "forward"), "", "")
    assert figure is not None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vgg16", "alexnet"]
    assert "oom" in [text.get_text() for text in figure.axes[0].texts]
    assert "4" in axis(figure)[0]


def test_names_that_matplotlib_would_read_as_commands_are_shown() -> None:
    points = tuple(Point(batch=b, middle=b, low=b, high=b) for b in (1, 2))
    lines = [Curve(label=label, model=label, variant="cpu", points=points) for label in ("_hidden", "$x$")]
    figure = draw_curves(lines, "", "")
    assert figure is not None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [" _hidden", r"\$x\$"]


def test_one_batch_size_gives_bars() -> None:
    results = [make_result(model, 32) for model in ("a", "b", "c")] + [make_result("d", 32, status="oom")]
    figure = draw_curves(time_curves(results, "forward"), "", "")
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c", "d"]
    assert "oom" in [text.get_text() for text in figure.axes[0].texts]


def test_forty_models_keep_a_bounded_size_and_distinct_styles() -> None:
    lines = [
        Curve(
            label=f"model {i}",
            model=f"model {i}",
            variant="cpu",
            points=tuple(Point(batch=b, middle=i + b, low=i + b, high=i + b) for b in (1, 2)),
        )
        for i in range(40)
    ]
    figure = draw_curves(lines, "", "")
    assert figure is not None
    assert max(figure.get_size_inches()) < 13
    drawn = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in figure.axes[0].lines
        if line.get_marker() not in ("_", "None")
    }
    assert len(drawn) == 40


def test_many_distributions_show_the_noisiest() -> None:
    results = [make_result(batch=b, steps=8, noise=0.5 if b == 77 else 0.01) for b in range(1, 81)]
    figure = draw_distributions(results, "forward", "Spread")
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == 50
    assert labels[0] == "vgg16 b=77"
    assert "of 80 trials" in figure.axes[0].get_title(loc="left")


def test_pyplot_stays_out() -> None:
    code = "import sys, tracking.plots.sweep_plots; print('matplotlib.pyplot' in sys.modules, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]
