from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.records import make_result
from tracking.plots.step_plots import HEIGHT, WIDTH, draw_steps
from tracking.record import Result

BLUE, ORANGE, SHADE = (0, 114, 178), (213, 94, 0), (241, 241, 241)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.size == (WIDTH, HEIGHT)
        return np.asarray(image.convert("RGB")).astype(int)


def near(path: Path, colour: tuple[int, int, int], top: int = 70) -> np.ndarray:
    """The columns and rows of the pixels below `top` (title and legend) in about this colour."""
    matches = np.abs(pixels(path)[top:] - np.array(colour)).max(axis=2) < 40
    return np.argwhere(matches)[:, ::-1] + (0, top)


def with_samples(steps: tuple[float, ...], warmup: tuple[float, ...] = ()) -> Result:
    result = make_result()
    measured = replace(result.passes["forward"], step_s=steps, warmup_s=warmup)
    return replace(result, passes={"forward": measured})


def test_steps_run_from_left_to_right_at_their_heights(tmp_path: Path) -> None:
    rising = with_samples(tuple(0.1 + 0.01 * i for i in range(40)))
    draw_steps(rising, "forward", tmp_path / "new" / "a.png")
    places = near(tmp_path / "new" / "a.png", BLUE)
    left, right = places[places[:, 0] < 200], places[places[:, 0] > 700]
    assert left[:, 1].max() > right[:, 1].min() + 100


def test_an_outlier_is_ringed_where_it_is(tmp_path: Path) -> None:
    calm = tuple(0.1 + 0.001 * (i % 5) for i in range(40))
    draw_steps(with_samples(calm), "forward", tmp_path / "calm.png")
    assert len(near(tmp_path / "calm.png", ORANGE)) == 0
    draw_steps(with_samples((*calm[:20], 0.3, *calm[21:])), "forward", tmp_path / "odd.png")
    ring = near(tmp_path / "odd.png", ORANGE)
    assert len(ring) > 10
    assert 400 < ring[:, 0].mean() < 450
    assert ring[:, 1].max() < 110


def test_warm_up_is_shaded_and_its_long_first_step_does_not_squeeze_the_rest(tmp_path: Path) -> None:
    steps = tuple(0.1 + 0.001 * (i % 5) for i in range(30))
    draw_steps(with_samples(steps), "forward", tmp_path / "without.png")
    draw_steps(with_samples(steps, warmup=(50.0, 0.11, 0.1)), "forward", tmp_path / "with.png")
    shade = [(pixels(tmp_path / f"{name}.png")[80:280] == SHADE).all(axis=2) for name in ("without", "with")]
    assert not shade[0].any()
    assert shade[1][:, 70:110].mean() > 0.8
    assert not shade[1][:, 200:].any()
    assert near(tmp_path / "with.png", BLUE)[:, 1].max() < 170


@pytest.mark.parametrize("seconds", [2e-6, 3e-3, 4.0, 5000.0])
@pytest.mark.parametrize("count", [1, 2, 5000])
def test_any_number_of_steps_of_any_length(seconds: float, count: int, tmp_path: Path) -> None:
    draw_steps(with_samples((seconds,) * count, warmup=(seconds,)), "forward", tmp_path / "a.png")
    assert len(near(tmp_path / "a.png", BLUE)) > 10


def test_a_slow_step_among_thousands_is_seen(tmp_path: Path) -> None:
    draw_steps(with_samples((*[0.1] * 4000, 0.3, *[0.1] * 4000)), "forward", tmp_path / "a.png")
    assert near(tmp_path / "a.png", BLUE)[:, 1].min() < 110


def test_the_same_result_gives_the_same_file_and_a_long_name_fits(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_steps(make_result("model " * 60, noise=0.3, steps=400), "forward", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_pass_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        draw_steps(make_result(status="oom"), "forward", tmp_path / "x.png")


def test_matplotlib_stays_out() -> None:
    code = (
        "import sys; from tests.support.records import make_result; from tracking.plots.step_plots import draw_steps; "
        "draw_steps(make_result(), 'forward', sys.argv[1]); print('matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "/dev/null"],
        capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.split() == ["False"]
