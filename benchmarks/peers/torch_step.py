"""Times VGG16 and ResNet V2-50 in PyTorch with the same layers, loss, batch and timing as this system.

usage: torch_step.py --models vgg16 resnet_v2_50 --batches 64 256 --precisions bfloat16 float32 [--device cuda]
       [--seconds 120] [--image-size 224] [--known FILE]; prints one JSON object per line, with
       "error" where a point did not run.

`forward` is in inference mode; `forward_backward` returns the gradients of sum(logits ** 2) / 2 for all parameters in
training mode. bfloat16 and float16 are autocast: parameters stay float32, as in Keras' mixed precision. Modes: `nchw`,
`channels_last` (memory format) and `compile` (torch.compile on top of it). Points are measured in the order given
until the time is up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PARAMETERS = {"vgg16": 138_357_544, "resnet_v2_50": 25_568_360}
MODES = ("channels_last", "compile", "nchw")
WARM_UP = 5
STEPS, SECONDS = 10, 1.0

Step = Callable[[], object]


class Vgg16(nn.Module):
    """The same net as in nets/architectures/vgg.py."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for count, filters in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            for _ in range(count):
                layers += [nn.Conv2d(width, filters, 3, padding=1), nn.ReLU(inplace=True)]
                width = filters
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Flatten(), nn.Linear(512 * (image_size // 32) ** 2, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        layers += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4096, 1000)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-5, momentum=0.003)


class Bottleneck(nn.Module):
    """The same unit as `_bottleneck` in nets/architectures/resnet_v2.py."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        depth = 4 * width
        self.stride = stride
        self.preact, self.norm1, self.norm2 = norm(inputs), norm(width), norm(width)
        self.shortcut = nn.Conv2d(inputs, depth, 1, stride) if inputs != depth else None
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(width, depth, 1)

    def forward(self, x: Tensor) -> Tensor:
        preact = functional.relu(self.preact(x))
        if self.shortcut is not None:
            shortcut = self.shortcut(preact)
        else:
            shortcut = functional.max_pool2d(x, 1, self.stride) if self.stride > 1 else x
        residual = functional.relu(self.norm1(self.conv1(preact)))
        residual = functional.relu(self.norm2(self.conv2(residual)))
        return shortcut + self.conv3(residual)


class ResnetV2(nn.Module):
    """The 50-layer net of nets/architectures/resnet_v2.py."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3)
        units: list[nn.Module] = []
        inputs = 64
        for block, (count, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
            for unit in range(count):
                units.append(Bottleneck(inputs, width, 2 if unit == count - 1 and block < 3 else 1))
                inputs = 4 * width
        self.units = nn.Sequential(*units)
        self.postnorm = norm(inputs)
        self.logits = nn.Linear(inputs, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(self.conv1(x), (0, 1, 0, 1), value=float("-inf"))  # TensorFlow's SAME on an even size
        x = self.units(functional.max_pool2d(x, 3, 2))
        return self.logits(functional.relu(self.postnorm(x)).mean((2, 3)))


def build(name: str, image_size: int) -> nn.Module:
    model = Vgg16(image_size) if name == "vgg16" else ResnetV2()
    count = sum(parameter.numel() for parameter in model.parameters())
    if image_size == 224 and count != PARAMETERS[name]:
        raise RuntimeError(f"expected {PARAMETERS[name]} parameters in {name}. Received: {count}")
    return model


def passes(model: nn.Module, images: Tensor, mode: str, dtype: torch.dtype | None) -> Iterator[tuple[str, Step]]:
    """Yield each pass with a function that runs one step of it."""
    parameters = list(model.parameters())
    net = torch.compile(model) if mode == "compile" else model
    autocast = torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None)

    def forward() -> Tensor:
        with torch.no_grad(), autocast:
            return net(images)

    def forward_backward() -> tuple[Tensor, ...]:
        with autocast:
            logits = net(images)
        return torch.autograd.grad(logits.float().square().sum() / 2, parameters)

    model.eval()
    yield "forward", forward
    model.train()
    yield "forward_backward", forward_backward


def timed(step: Step, sync: Callable[[], None]) -> tuple[float, list[float]]:
    """Return the seconds of the first call, and of each step after a warm-up."""

    def one() -> float:
        sync()
        start = time.perf_counter()
        output = step()
        sync()
        seconds = time.perf_counter() - start
        del output
        return seconds

    first = one()
    for _ in range(WARM_UP):
        one()
    samples: list[float] = []
    while len(samples) < STEPS or sum(samples) < SECONDS:
        samples.append(one())
    return first, samples


def measure(name: str, batch: int, precision: str, mode: str, device: str, image_size: int) -> Iterator[dict[str, Any]]:
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    cuda = device == "cuda"
    layout = torch.contiguous_format if mode == "nchw" else torch.channels_last
    torch.manual_seed(0)
    model = build(name, image_size).to(device, memory_format=layout)
    images = (torch.randn(batch, 3, image_size, image_size, device=device) * 0.1).to(memory_format=layout)
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    for pass_name, step in passes(model, images, mode, dtype):
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        first, samples = timed(step, torch.cuda.synchronize if cuda else lambda: None)
        yield {
            "pass": pass_name,
            "median_s": statistics.median(samples),
            "images_per_s": batch * len(samples) / sum(samples),
            "steps": len(samples),
            "first_call_s": first,
            "peak_device_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
        }


def done_points(path: Path) -> set[tuple[Any, ...]]:
    """The points of an earlier call that failed or have their last pass."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    done = [row for row in rows if "error" in row or row["pass"] == "forward_backward"]
    return {(row["model"], row["batch"], row["precision"], row["mode"]) for row in done}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(PARAMETERS), choices=list(PARAMETERS))
    parser.add_argument("--batches", nargs="+", type=int, default=[64])
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "tf32", "float32"])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--known", type=Path, help="JSON lines of an earlier call, whose points are skipped")
    options = parser.parse_args()
    known = done_points(options.known) if options.known else set()
    end = time.monotonic() + options.seconds
    for precision, mode, name, batch in itertools.product(
        options.precisions, options.modes, options.models, options.batches
    ):
        point = {"model": name, "batch": batch, "precision": precision, "mode": mode, "torch": torch.__version__}
        if (name, batch, precision, mode) in known:
            continue
        if time.monotonic() > end:
            print(json.dumps(point | {"error": "left out: no time left"}), flush=True)
            continue
        try:
            for figures in measure(name, batch, precision, mode, options.device, options.image_size):
                print(json.dumps(point | figures), flush=True)
        except Exception as error:
            print(json.dumps(point | {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}), flush=True)
        torch.compiler.reset()
        if options.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
