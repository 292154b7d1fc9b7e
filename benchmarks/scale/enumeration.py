"""How long a grid takes to become trials: composed, typed, checked and made unique, compared with Hydra's composition.

The points are of two models and many batch sizes, and no text is repeated. Memory is the growth of this process.

usage: python benchmarks/scale/enumeration.py [--points 1000 10000] [--hydra 100]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import psutil
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from sweeps.machine.this_machine import this_node
from sweeps.plan import checks
from sweeps.plan.order import unique
from sweeps.request import options, schema
from sweeps.request.compose import Composer
from tracking.record import Trial


def points(count: int) -> Iterator[list[str]]:
    for index in range(count):
        yield [f"model={('vgg16', 'alexnet_conv')[index % 2]}", f"batch={index // 2 + 1}", "device.cpus=1"]


def trials(composer: Callable[[Sequence[str]], Any], count: int) -> list[Trial]:
    read, problems = [], []
    for overrides in points(count):
        trial, wrong = schema.read(composer(overrides))
        read.append(trial)
        problems += wrong
    planned = unique(read)
    problems += checks.problems(planned, [this_node()])
    if problems or len(planned) != count:
        raise RuntimeError(f"expected {count} trials. Received: {len(planned)}; {problems[:3]}")
    return planned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--hydra", type=int, default=100, help="points for Hydra, whose time per point is constant")
    chosen = parser.parse_args()
    options.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        rows = [("Hydra's own", chosen.hydra, lambda overrides: compose("config", list(overrides)))]
        rows += [("this system", count, Composer(loader, master).compose) for count in chosen.points]
        for label, count, composer in rows:
            before = psutil.Process().memory_info().rss
            start = time.perf_counter()
            made = len(trials(composer, count))
            seconds = time.perf_counter() - start
            grown = (psutil.Process().memory_info().rss - before) / 2**20
            each = f"{1000 * seconds / count:6.2f} ms each, {grown:5.0f} MB"
            print(f"{label:12} {made:6} points {seconds:7.2f} s, {each}")


if __name__ == "__main__":
    main()
