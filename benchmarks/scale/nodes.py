"""Overhead per trial on four Ray nodes of one core each on this machine, compared with one node.

The trials are `tiny` with device.cpus=1, both passes, journal and CSV. One node is this system's own Ray
(cluster=local). Four nodes are a Ray cluster (cluster=ray) whose head runs the sweep's driver and no trials. The
trials' files travel through Ray, but the nodes share this machine's cores, so no more trials run at a time than with
one node.

usage: python benchmarks/scale/nodes.py [--trials 100] [--nodes 4]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.side_by_side import sweep
from benchmarks.throughput import PROTOCOL, span_s

RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6397


@contextlib.contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[str]:
    """Yield the address of a Ray cluster with this many nodes of one core, each with its own loopback address."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(20)}
    started = []
    try:
        for number in range(nodes + 1):
            role = [f"--address=127.0.0.1:{PORT}", f"--node-ip-address=127.0.0.{number + 1}", "--num-cpus=1"]
            if number == 0:
                role = ["--head", f"--port={PORT}", "--node-ip-address=127.0.0.1", "--num-cpus=0"]
                role += ["--include-dashboard=false", f"--temp-dir={folder}"]
            command = [RAY, "start", "--block", "--disable-usage-stats", "--object-store-memory=200000000", *role]
            with (folder / f"node{number}.txt").open("wb") as output:
                started.append(subprocess.Popen(command, stdout=output, stderr=output))
            while "Ray runtime started" not in (folder / f"node{number}.txt").read_text():
                if started[-1].poll() is not None:
                    raise RuntimeError((folder / f"node{number}.txt").read_text())
                time.sleep(0.2)
        yield f"127.0.0.1:{PORT}"
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def measure(trials: int, *overrides: str) -> tuple[float, list[dict[str, Any]]]:
    """Return the wall seconds of the command, and the results in order of their start."""
    batches = ",".join(str(batch) for batch in range(1, trials + 1))
    fixed = ["model=tiny", f"batch={batches}", "device.cpus=1", "calibrate=false", "tracking=csv", *PROTOCOL]
    with tempfile.TemporaryDirectory() as folder:
        total_s, results = sweep(Path(folder), *fixed, *overrides)
    if len(results) != trials or any(result["status"] != "ok" for result in results):
        raise RuntimeError(f"expected {trials} ok trials. Received: {len(results)} results")
    return total_s, sorted(results, key=lambda result: float(result["started_at"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=4)
    options = parser.parse_args()
    rows = {"one node (cluster=local)": measure(options.trials)}
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, cluster(Path(folder), options.nodes) as address:
        many = measure(options.trials, "cluster=ray", f"cluster.address={address}")
    rows[f"{options.nodes} nodes (cluster=ray)"] = many
    print(f"\n{options.trials} trials of one core, {os.cpu_count()} cores: seconds per trial (ratio to the first row)")
    print(f"{'':28}{'total':>18}{'without start-up':>18}{'in the trial':>16}")
    base_all, base_span = (rows["one node (cluster=local)"][0], span_s(rows["one node (cluster=local)"][1]))
    for label, (total_s, results) in rows.items():
        span = span_s(results)
        busy = sum(float(result["wall_s"]) for result in results) / options.trials
        cells = [f"{s / options.trials:.3f} ({s / b:.2f})" for s, b in ((total_s, base_all), (span, base_span))]
        print(f"{label:28}{cells[0]:>18}{cells[1]:>18}{busy:>16.3f}")
    share = Counter(result["host"]["node_ip"] for result in many[1])
    print("trials on each node: " + ", ".join(f"{address} {count}" for address, count in sorted(share.items())))


if __name__ == "__main__":
    main()
