"""Pictures of more than 8 bits a channel."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sweeps.tasks.picture_classifier.pictures import PictureError, read

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def png(values: np.ndarray[Any, Any]) -> bytes:
    """A PNG of 16 bits a channel."""
    data: bytes = tf.io.encode_png(values.astype(np.uint16)).numpy()
    return data


def saved(values: np.ndarray[Any, Any], format_: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format_)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_bits_that_are_used_become_eight(bits: int, channels: int) -> None:
    values = np.stack([RAMP * (2**bits - 1)] * channels, axis=-1)
    if channels in (2, 4):
        values[..., -1] = 2**16 - 1  # opaque
    image = read(png(values), (8, 8))
    np.testing.assert_allclose(image, np.stack([RAMP * 255] * 3, axis=-1), atol=1)


def test_colours_keep_their_proportions_and_transparency_is_white() -> None:
    values = np.zeros((8, 8, 4))
    values[...] = (4095, 2048, 1024, 2**16 - 1)
    values[:, 4:, 3] = 0
    image = read(png(values), (8, 8))
    assert image[0, 0].tolist() == [255, 128, 64]
    assert image[0, 7].tolist() == [255, 255, 255]


def test_other_formats_of_many_bits() -> None:
    expected = np.stack([RAMP * 255] * 3, axis=-1)
    for data in (
        saved((RAMP * 4095).astype(np.uint16), "TIFF"),
        saved((RAMP * 65535).astype(np.uint16), "TIFF"),
        saved((RAMP * (2**31 - 1)).astype(np.int32), "TIFF"),
        saved(RAMP.astype(np.float32), "TIFF"),
        saved((RAMP * 255).astype(np.float32), "TIFF"),
        saved((RAMP * 1e4).astype(np.float32), "TIFF"),
        b"P5 8 8 4095\n" + (RAMP * 4095).astype(">u2").tobytes(),
    ):
        np.testing.assert_allclose(read(data, (8, 8)), expected, atol=1.01)


def test_a_tiff_whose_zero_is_white() -> None:
    for highest, type_ in ((4095, np.uint16), (65535, np.uint16), (255, np.uint8)):
        buffer = io.BytesIO()
        inverted = Image.fromarray((highest - RAMP * highest).astype(type_))
        # Pillow inverts 8 bits as it writes this tag.
        whole = inverted if type_ is np.uint16 else Image.fromarray((RAMP * highest).astype(type_))
        whole.save(buffer, "TIFF", tiffinfo={262: 0})
        np.testing.assert_allclose(read(buffer.getvalue(), (8, 8))[..., 0], RAMP * 255, atol=1.01)


def test_a_portable_graymap_says_what_is_white() -> None:
    dark = b"P5 8 8 4095\n" + np.full((8, 8), 512, ">u2").tobytes()
    assert read(dark, (8, 8))[0, 0].tolist() == [32, 32, 32]


def test_values_of_unclear_meaning_are_refused() -> None:
    with pytest.raises(PictureError, match="not finite"):
        read(saved(np.full((8, 8), np.nan, np.float32), "TIFF"), (8, 8))
    for values in ((RAMP - 0.5).astype(np.float32), (RAMP * 100 - 50).astype(np.int32)):
        with pytest.raises(PictureError, match="expected values from 0 to 2147483647"):
            read(saved(values, "TIFF"), (8, 8))
    whole = png(np.random.default_rng(0).integers(0, 65536, (32, 32, 3)))
    with pytest.raises(PictureError, match="is damaged"):
        read(whole[:2000], (8, 8))


def colour_tiff(highest: int) -> bytes:
    """An uncompressed TIFF of 8 x 8 colours of 16 bits, all of one value."""
    entries = [
        (256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140),
        (277, 3, 1, 3), (278, 3, 1, 8), (279, 4, 1, 384), (284, 3, 1, 1),
    ]  # fmt: skip
    head = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    for tag, kind, count, value in entries:
        head += b"".join(part.to_bytes(size, "little") for part, size in ((tag, 2), (kind, 2), (count, 4), (value, 4)))
    head += bytes(4)
    assert len(head) == 134
    return head + np.array([16, 16, 16], "<u2").tobytes() + np.full((8, 8, 3), highest, "<u2").tobytes()


def test_a_colour_tiff_of_which_pillow_keeps_nothing() -> None:
    assert read(colour_tiff(40_000), (8, 8))[0, 0].tolist() == [156, 156, 156]
    with pytest.raises(PictureError, match="expected colours that use the 16 bits of a TIFF"):
        read(colour_tiff(4_000), (8, 8))
