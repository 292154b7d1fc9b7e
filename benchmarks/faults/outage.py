"""Whether an unreachable tracking server affects the timing: the same sweep with a live and with a dead server.

Each round runs the sweep three times: twice with a real `mlflow server` that answers, once with an address where nobody
listens. The two live ones show how much two sweeps differ by themselves. Six rounds cover all six orders.

usage: python benchmarks/faults/outage.py [--rounds 6] [SWEEP OVERRIDES ...]     default: model=alexnet_conv batch=1,4
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.side_by_side import sweep

ORDERS = list(itertools.permutations(("live", "live again", "dead")))
PROTOCOL = ["protocol=classic", "protocol.burn_in=5", "protocol.steps=40", "calibrate=false"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Yield the address of a real MLflow server."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"the MLflow server did not start: {(folder / 'log.txt').read_text()[-2000:]}")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def medians(uri: str, overrides: list[str]) -> dict[str, float]:
    """Run one sweep, and return the median seconds of each trial and pass."""
    with tempfile.TemporaryDirectory() as folder:
        _, results = sweep(Path(folder), *overrides, *PROTOCOL, "tracking=mlflow", f"tracking.uri={uri}")
    return {
        f"batch {result['trial']['batch']} {name}": figures["median_s"]
        for result in results
        for name, figures in result["passes"].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=len(ORDERS), help="a multiple of the six orders (6)")
    parser.add_argument("overrides", nargs="*", default=["model=alexnet_conv", "batch=1,4"])
    options = parser.parse_args()
    if options.rounds < 1 or options.rounds % len(ORDERS):
        # Otherwise an effect of the order would be taken for one of the dead server.
        parser.error(f"--rounds: expected a multiple of {len(ORDERS)}, all orders alike. Received: {options.rounds}.")
    same: dict[str, list[float]] = defaultdict(list)
    away: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as live:
        uris = {"live": live, "live again": live, "dead": f"http://127.0.0.1:{free_port()}"}
        for number in range(options.rounds):
            by_side = {side: medians(uris[side], options.overrides) for side in ORDERS[number % len(ORDERS)]}
            for key, seconds in by_side["live"].items():
                same[key].append(math.log(by_side["live again"][key] / seconds))
                away[key].append(math.log(by_side["dead"][key] / math.sqrt(seconds * by_side["live again"][key])))
            print(f"round {number + 1}:", *(f"{side} {by_side[side]}" for side in sorted(by_side)), flush=True)
    print(f"\n{' '.join(options.overrides)}, {options.rounds} rounds: ratio of medians, middle (lowest, highest)")
    print(f"{'':28}{'live to live':>26}{'dead to live':>26}")
    for key in same:
        cells = [
            f"{math.exp(statistics.median(logs)):.3f} ({math.exp(min(logs)):.3f}, {math.exp(max(logs)):.3f})"
            for logs in (same[key], away[key])
        ]
        print(f"{key:28}{cells[0]:>26}{cells[1]:>26}")


if __name__ == "__main__":
    main()
