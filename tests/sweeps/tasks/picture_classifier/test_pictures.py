from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeps.tasks.picture_classifier import pictures
from sweeps.tasks.picture_classifier.pictures import PictureError, check, read

ORANGE = (255, 128, 0)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [suffix for suffixes in pictures.FORMATS.values() for suffix in suffixes[:2]])
def test_formats(tmp_path: Path, suffix: str) -> None:
    format_ = next(name for name, suffixes in pictures.FORMATS.items() if suffix in suffixes)
    mode, colour = ("L", ORANGE[1]) if suffix == ".pgm" else ("RGB", ORANGE)
    path = saved(tmp_path / f"a{suffix}", Image.new(mode, (40, 20), colour), format=format_)
    assert check(path) is None
    image = read(path, (8, 10))
    assert (image.shape, image.dtype) == ((8, 10, 3), np.uint8)
    np.testing.assert_allclose(image, np.broadcast_to(colour, image.shape), atol=3)
    np.testing.assert_array_equal(read(path.read_bytes(), (8, 10)), image)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("L", 100, ".png", (100, 100, 100)),
        ("1", 1, ".png", (255, 255, 255)),
        ("I;16", 25700, ".png", (100, 100, 100)),
        ("LA", (100, 255), ".png", (100, 100, 100)),
        ("LA", (100, 0), ".png", (255, 255, 255)),
        ("RGBA", (*ORANGE, 255), ".png", ORANGE),
        ("RGBA", (*ORANGE, 0), ".png", (255, 255, 255)),
        ("CMYK", (0, 127, 255, 0), ".jpg", ORANGE),
        ("L", 100, ".jpg", (100, 100, 100)),
        ("YCbCr", (100, 128, 128), ".jpg", (100, 100, 100)),
    ],
)
def test_colours(tmp_path: Path, mode: str, colour: object, suffix: str, expected: tuple[int, ...]) -> None:
    path = saved(tmp_path / f"a{suffix}", Image.new(mode, (16, 16), colour))  # type: ignore[arg-type]
    np.testing.assert_allclose(read(path, (4, 4)), np.broadcast_to(expected, (4, 4, 3)), atol=3)


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *ORANGE])
    assert tuple(read(saved(tmp_path / "a.png", image), (1, 1))[0, 0]) == ORANGE
    assert tuple(read(saved(tmp_path / "b.png", image, transparency=1), (1, 1))[0, 0]) == (255, 255, 255)


def test_the_orientation_of_the_camera_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "black")
    image.paste("white", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = read(saved(tmp_path / "a.png", image, exif=exif), (10, 20))
    assert turned[5, 2].max() == 0
    assert turned[5, 17].min() == 255


def test_stretch_keeps_everything_and_crop_keeps_proportions(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (100, 0, 200, 100))
    path = saved(tmp_path / "a.png", image)
    row = read(path, (30, 30), "stretch")[15].mean(axis=1)
    assert [row[5], row[15], row[25]] == [0, 255, 0]
    assert read(path, (30, 30), "crop").min() > 200


def test_a_large_photograph_decoded_at_a_fraction_is_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1600, dtype=np.uint8)
    image = Image.fromarray(np.dstack([np.tile(ramp, (1200, 1))] * 3))
    path = saved(tmp_path / "a.jpg", image, quality=95)
    whole = image.resize((64, 48), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(read(path, (48, 64)).astype(int), np.asarray(whole).astype(int), atol=4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JPEG, PNG, BMP, WebP, GIF, "),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "not JPEG, PNG, BMP, WebP, GIF, "),
        (b"no picture at all", "not JPEG, PNG, BMP, WebP, GIF, "),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 60, ""),
    ],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert words in (check(path) or "")
    with pytest.raises(PictureError, match=str(path)):
        read(path, (4, 4))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_a_truncated_picture(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    whole = saved(tmp_path / f"a{suffix}", Image.fromarray(noise)).read_bytes()
    for part in (len(whole) // 2, len(whole) - 40, 30, 3):
        with pytest.raises(PictureError):
            read(whole[:part], (4, 4))


def test_a_small_file_of_a_huge_picture(tmp_path: Path) -> None:
    path = saved(tmp_path / "bomb.png", Image.new("1", (20_000, 20_000)))
    assert path.stat().st_size < 100_000
    assert f"at most {pictures.MOST_PIXELS:,} pixels" in (check(path) or "")
    between = saved(tmp_path / "large.png", Image.new("1", (10_000, 10_000)))
    assert "pixels" in (check(between) or "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in (check(tmp_path / "none.jpg") or "")
    assert "not a file" in (check(tmp_path) or "")
    with pytest.raises(PictureError, match="the picture cannot be read"):
        read(io.BytesIO(b"x").getvalue(), (1, 1))
