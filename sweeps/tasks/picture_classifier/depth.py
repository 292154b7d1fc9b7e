"""Pictures of more than 8 bits a channel, to 8: scaled by the bits that are used, and not only by those of the file.

Cameras and scanners of 8 to 14 bits write theirs into files of 16, as they are or shifted up; a file does not say
which. So the largest value decides: below 256 it is 8 bits, below 1024 it is 10, then 12, 14, otherwise 16. Without
that, a 12-bit picture would be nearly black. A file of 16 bits whose brightest pixel is that dark is made brighter.
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
    """Whether it is a PNG of 16 bits a channel with colours or transparency: Pillow reads the upper 8 bits of these."""
    if image.format != "PNG":
        return False
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        head = file.read(26)
    return head.startswith(_PNG) and head[24] == 16 and head[25] in (2, 4, 6)


def read_deep_colours(source: str | Path | bytes) -> Image.Image:
    """Such a PNG in 8 bits a channel: RGB, LA or RGBA. Raises what TensorFlow raises for a damaged one."""
    import tensorflow as tf  # takes seconds, and few pictures need it

    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    with tf.device("CPU:0"):
        values = tf.io.decode_png(data, dtype=tf.uint16).numpy()
    colours = 1 if values.shape[-1] == 2 else 3
    eight = _scaled(values[..., :colours], _bits(values[..., :colours]))
    if values.shape[-1] > colours:  # transparency is written in full
        eight = np.concatenate([eight, _scaled(values[..., colours:], 16)], axis=-1)
    return Image.fromarray(eight)


def is_too_dark(image: Image.Image) -> bool:
    """Whether it is a TIFF of 16 bits a channel, of which Pillow reads the upper 8, that hold next to nothing."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    deep = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    return deep and bool(max(high for _, high in np.reshape(image.getextrema(), (-1, 2))[:3]) < 2**4)


def grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floating-point numbers, in 8 bits. Raises ValueError for what has no such grey."""
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("expected numbers in every pixel. Received: some that are not finite")
    if values.min(initial=0) < 0:
        # Of numbers with a sign nothing says what is black. Pillow reads 32 bits without one as if they had it.
        raise ValueError("expected values from 0 to 2147483647. Received: some with a sign, or larger ones")
    if values.dtype.kind == "f":
        highest = float(values.max(initial=0))
        factor = 255 if highest <= 1 else 1 if highest <= 255 else 255 / highest
        eight = (values * factor + 0.5).clip(0, 255).astype(np.uint8)
    else:
        # Pillow has scaled these by the highest value that they state.
        bits = 16 if image.format in ("PPM", "JPEG2000") else _bits(values)
        eight = _scaled(values, bits)
    return Image.fromarray(255 - eight if _is_white_zero(image) else eight)


def _is_white_zero(image: Image.Image) -> bool:
    """Whether it is a TIFF of which 0 is white; Pillow turns only those of 8 bits and fewer."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0


def _bits(values: np.ndarray[Any, Any]) -> int:
    highest = int(values.max(initial=0))
    return next(bits for bits in _BITS if highest < 2**bits)


def _scaled(values: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    return (values.astype(np.int64) >> (bits - 8)).astype(np.uint8)
