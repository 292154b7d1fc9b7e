"""Converts pictures of more than 8 bits per channel to 8, scaled by the bits in use and not by those of the file.

Cameras and scanners of 8 to 14 bits write files of 16, with values unchanged or shifted up; a file does not say which.
So the largest value decides: below 256 it is 8 bits, below 1024 it is 10, then 12, 14, otherwise 16. Without this, a
12-bit picture would be nearly black. As a consequence, a dark picture of 16 bits becomes brighter.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

_PNG = b"\x89PNG\r\n\x1a\n"
_PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
_BITS = (8, 10, 12, 14, 16, 24, 31)  # Pillow's integers have a sign


def has_deep_colours(image: Image.Image, source: str | Path | bytes) -> bool:
    """Whether this is a PNG of 16 bits per channel with colours or transparency, of which Pillow reads the upper 8."""
    if image.format != "PNG":
        return False
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        head = file.read(26)
    return head.startswith(_PNG) and head[24] == 16 and head[25] in (2, 4, 6)


def read_deep_colours(source: str | Path | bytes) -> Image.Image:
    """Read such a PNG in 8 bits per channel: RGB, LA or RGBA. Raises TensorFlow's errors for a damaged one."""
    import tensorflow as tf  # takes seconds, and few pictures need it

    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    with tf.device("CPU:0"):
        values = tf.io.decode_png(data, dtype=tf.uint16).numpy()
    colours = 1 if values.shape[-1] == 2 else 3
    eight = _scaled(values[..., :colours], _bits(values[..., :colours]))
    if values.shape[-1] > colours:  # transparency uses all 16 bits
        eight = np.concatenate([eight, _scaled(values[..., colours:], 16)], axis=-1)
    return Image.fromarray(eight)


def is_too_dark(image: Image.Image) -> bool:
    """Whether this is a TIFF of 16 bits per channel with almost nothing in the upper 8, all that Pillow reads."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    deep = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    return deep and bool(max(high for _, high in np.reshape(image.getextrema(), (-1, 2))[:3]) < 2**4)


def grey(image: Image.Image) -> Image.Image:
    """Convert grey of 16 or 32 bits, or of floating-point numbers, to 8 bits. Raises ValueError where unclear."""
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("expected numbers in every pixel. Received: some that are not finite")
    if values.min(initial=0) < 0:
        # Signed numbers do not say what is black. Pillow reads unsigned 32 bits as signed ones.
        raise ValueError("expected values from 0 to 2147483647. Received: some with a sign, or larger ones")
    if values.dtype.kind == "f":
        highest = float(values.max(initial=0))
        factor = 255 if highest <= 1 else 1 if highest <= 255 else 255 / highest
        eight = (values * factor + 0.5).clip(0, 255).astype(np.uint8)
    else:
        # Pillow has scaled these two by the maximum that they declare.
        bits = 16 if image.format in ("PPM", "JPEG2000") else _bits(values)
        eight = _scaled(values, bits)
    return Image.fromarray(255 - eight if _is_white_zero(image) else eight)


def _is_white_zero(image: Image.Image) -> bool:
    """Whether this is a TIFF in which 0 is white; Pillow inverts only those of up to 8 bits."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0


def _bits(values: np.ndarray[Any, Any]) -> int:
    highest = int(values.max(initial=0))
    return next(bits for bits in _BITS if highest < 2**bits)


def _scaled(values: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    return (values.astype(np.int64) >> (bits - 8)).astype(np.uint8)
