"""Picture data sets made on the spot: real files, a few classes that a net can tell apart."""

from __future__ import annotations

import random
from dataclasses import asdict
from enum import Enum
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sweeps.tasks.options import TASK_CONFS
from sweeps.tasks.pictures import data_checks

CLASSES = ("bars", "disc", "ring", "stripes")
_HUES = {"bars": (230, 60, 60), "disc": (60, 220, 80), "ring": (80, 110, 250), "stripes": (240, 220, 60)}


def picture(kind: str, seed: int) -> Image.Image:
    """Draw a shape in roughly its class's colour, somewhere on a dark ground, in a picture of random size."""
    chance, noise = random.Random(f"{kind} {seed}"), np.random.default_rng(seed)
    width, height = chance.randint(60, 120), chance.randint(60, 120)
    ground = tuple(chance.randint(0, 90) for _ in range(3))
    colour = tuple(min(255, max(0, value + chance.randint(-30, 30))) for value in _HUES[kind])
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    side = min(width, height) * chance.uniform(0.55, 0.9)
    x, y = chance.uniform(0, width - side), chance.uniform(0, height - side)
    if kind == "disc":
        draw.ellipse((x, y, x + side, y + side), fill=colour)
    elif kind == "ring":
        draw.ellipse((x, y, x + side, y + side), outline=colour, width=max(4, int(side / 6)))
    else:
        for offset in range(0, int(side), 12):
            across = (x + offset, y, x + offset + 6, y + side)
            draw.rectangle(across if kind == "bars" else (x, y + offset, x + side, y + offset + 6), fill=colour)
    pixels = np.asarray(image).astype(float) + noise.normal(0, 10, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_shapes(folder: Path, each: int, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write `each` JPEGs of every class, one folder per class."""
    for kind in classes:
        (folder / kind).mkdir(parents=True)
        for i in range(each):
            picture(kind, i).save(folder / kind / f"{i:03}.jpg", quality=90)
    return folder


def bvlc_weights(seed: int = 3) -> dict[str, list[np.ndarray]]:
    """Random weights in the shapes of BVLC's AlexNet, such that its features stay within a few units."""
    shapes = {
        "conv1": (11, 11, 3, 96),
        "conv2": (5, 5, 48, 256),
        "conv3": (3, 3, 256, 384),
        "conv4": (3, 3, 192, 384),
        "conv5": (3, 3, 192, 256),
        "fc6": (9216, 4096),
        "fc7": (4096, 4096),
        "fc8": (4096, 1000),
    }
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        spread = np.float32(np.sqrt(2 / np.prod(shape[:-1])) / (60 if name == "conv1" else 1))
        kernel = generator.standard_normal(shape, dtype=np.float32) * spread
        weights[name] = [kernel, generator.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.01)]
    return weights


def save_bvlc(path: Path) -> dict[str, list[np.ndarray]]:
    """Such weights in a file as BVLC's are published in."""
    weights = bvlc_weights()
    np.save(path, np.array(weights, dtype=object), allow_pickle=True)
    return weights


def task_args(task: str, **given: object) -> dict[str, object]:
    """A task's arguments: the interface's defaults, and what is given."""
    values = asdict(TASK_CONFS[task]())
    del values["name"]
    return {key: value.name if isinstance(value, Enum) else value for key, value in values.items()} | given


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture file."""
    with Image.open(path) as image:
        return image.size


def data_problems(data: Path, labels: Path | None = None, *, skip: bool = False) -> tuple[str, ...]:
    """Return the problems that keep the data from being trained on, after a fresh look."""
    data_checks.problems.cache_clear()
    return data_checks.problems(str(data), None if labels is None else str(labels), 0.2, skip)


def write_list(shapes: Path, *lines: str) -> Path:
    """Write a list file beside the folders of its pictures."""
    path = shapes / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def listed(disc: str = "0", ring: str = "1") -> list[str]:
    """The lines of a list with five pictures of each class."""
    return [f"{kind}/{i:03}.jpg {label}" for kind, label in (("disc", disc), ("ring", ring)) for i in range(5)]
