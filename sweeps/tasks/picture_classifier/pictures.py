"""Reads picture files of any format and colours into RGB arrays of one size.

Pillow decodes them in training, classification and the logged model alike: TensorFlow's own decoder scales differently,
and a net should get the same pixels everywhere.
"""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from . import depth

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
}
"""The formats that are read, by Pillow's names."""
_OTHER_SUFFIXES = (
    *(
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".jxr",
        ".svg",
        ".svgz",
        ".tga",
        ".dib",
        ".ico",
        ".icns",
        ".cur",
        ".psd",
        ".xcf",
    ),
    *(".pcx", ".dds", ".exr", ".hdr", ".qoi", ".sgi", ".rgb", ".ras", ".xbm", ".xpm", ".eps", ".ai", ".wmf"),
    *(".emf", ".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf"),
    *(".pef", ".srw", ".dcm", ".dicom", ".fits", ".fit", ".nii"),
)
SUFFIXES = (*(suffix for suffixes in FORMATS.values() for suffix in suffixes), *_OTHER_SUFFIXES)
"""Suffixes of pictures: those that are read, and others, which are reported and not passed over."""
_READ = "JPEG, PNG, BMP, WebP, GIF, TIFF, PPM, JPEG 2000 or AVIF"
MOST_PIXELS = 89_478_485
"""A small file can contain a picture that fills the memory. Pillow warns from this size on: 256 MB as RGB."""
Fit = Literal["stretch", "crop"]


class PictureError(ValueError):
    """A picture cannot be read; the text is a sentence."""


def check(source: str | Path) -> str | None:
    """Return what is wrong with a picture file, as far as its first bytes show; None where they are fine."""
    try:
        _open(source).close()
    except PictureError as error:
        return str(error)
    return None


def read(
    source: str | Path | bytes, size: tuple[int, int], fit: Fit = "stretch"
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the picture as RGB bytes `[height, width, 3]` of `size` (height, width). Raises PictureError.

    `stretch` scales both sides independently; `crop` keeps the proportions and crops the longer side evenly. Grey
    becomes RGB, CMYK is converted, transparency is laid over white, and the camera's orientation is applied. Of an
    animation, the first frame is read.
    """
    height, width = size
    with _open(source) as image:
        try:
            # Decoding a photograph at a fraction of its size takes a fraction of the time; at twice the target size
            # the result is the same.
            image.draft(None, (2 * width, 2 * height))
            picture = _rgb(ImageOps.exif_transpose(_eight_bits(image, source)))
        except PictureError:
            raise
        except Exception as error:  # a damaged picture raises almost anything
            raise PictureError(f"{_name(source)} is damaged: {error}") from error
    if fit == "crop":
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    elif picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def middle(images: Any, size: tuple[int, int], margin: int) -> Any:
    """Return the middles `[..., *size, 3]` of pictures, arrays or tensors, that are `margin` pixels larger per side."""
    edge = margin // 2
    return images[..., edge : edge + size[0], edge : edge + size[1], :]


def _open(source: str | Path | bytes) -> Image.Image:
    """Open the picture, reading only its header."""
    file = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    try:
        if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):
            # Opening a pipe would wait for a writer, and a device may never end.
            raise PictureError(f"{_name(source)} cannot be read: not a file")
        image = Image.open(file, formats=list(FORMATS))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"{_name(source)}: expected at most {MOST_PIXELS:,} pixels. Received: more") from error
    except PictureError:
        raise
    except OSError as error:
        reason = error.strerror or f"not {_READ}"
        raise PictureError(f"{_name(source)} cannot be read: {reason}") from error
    except Exception as error:
        raise PictureError(f"{_name(source)} is damaged: {error}") from error
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise PictureError(
            f"{_name(source)}: expected at most {MOST_PIXELS:,} pixels. Received: {image.width} x {image.height}"
        )
    return image


def _eight_bits(image: Image.Image, source: str | Path | bytes) -> Image.Image:
    """Return the picture with 8 bits per channel, for which Pillow would cut off the upper or the lower ones."""
    if image.mode.startswith("I") or image.mode == "F":
        converted = depth.grey(image)
    elif depth.has_deep_colours(image, source):
        converted = depth.read_deep_colours(source)
    else:
        if depth.is_too_dark(image):
            raise PictureError(
                f"{_name(source)}: expected colours that use the 16 bits of a TIFF. Received: values below 4096, of "
                "which 4 bits would be left; save it as PNG, or in 8 bits"
            )
        return image
    # This keeps the camera's orientation, but not a transparent colour, which would be one of 16 bits.
    converted.info |= {key: value for key, value in image.info.items() if key != "transparency"}
    return converted


def _rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _name(source: str | Path | bytes) -> str:
    return "the picture" if isinstance(source, bytes) else str(source)
