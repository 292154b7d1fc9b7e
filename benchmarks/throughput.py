"""Wall time per trial of this system and of its peers, with trials that cost next to nothing, and where ours goes.

This system runs `task=probe` (a fresh process from the warm fork server for each trial, which only reports; journal,
CSV, MLflow on SQLite) and `tiny` (the same, plus timing both passes of a net), each with all cores per trial and with
one core per trial. The others log one number to MLflow on SQLite and do not even import TensorFlow: Ray Tune with its
MLflow callback, Hydra's basic launcher and, if `--ray-launcher` names a Python that has it, hydra-ray-launcher. The
total includes start-up and end.

usage: python benchmarks/throughput.py [--trials 200] [--only ours tune basic] [--ray-launcher PYTHON]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.side_by_side import peer, sweep

NO_OP = "this system, no-op"
NO_SINK = "this system, no-op, journal only"
NO_RAY = "this system, no-op, no Ray either"
OURS = {
    NO_OP: ("task=probe",),
    NO_SINK: ("task=probe", "tracking=none"),
    NO_RAY: ("task=probe", "tracking=none", "cluster=inline"),
    "this system, no-op, one core each": ("task=probe", "device.cpus=1"),
    "this system, tiny": (),
    "this system, tiny, one core each": ("device.cpus=1",),
}
BETWEEN = "between two trials"
PROTOCOL = ["protocol=classic", "protocol.burn_in=1", "protocol.steps=3"]
PEERS = {
    "tune": ("Ray Tune + MLflow callback", "ray_tune.py", ()),
    "basic": ("Hydra basic launcher + MLflow", "hydra_basic.py", ("basic",)),
    "ray_launcher": ("hydra-ray-launcher + MLflow", "hydra_basic.py", ("ray",)),
}


def ours(trials: int, *overrides: str) -> tuple[float, list[dict[str, Any]]]:
    batches = ",".join(str(batch) for batch in range(1, trials + 1))
    with tempfile.TemporaryDirectory() as folder:
        total_s, results = sweep(Path(folder), "model=tiny", f"batch={batches}", *PROTOCOL, *overrides)
    if len(results) != trials or any(result["status"] != "ok" for result in results):
        raise RuntimeError(f"expected {trials} ok trials. Received: {len(results)} results")
    return total_s, sorted(results, key=lambda result: float(result["started_at"]))


def span_s(results: list[dict[str, Any]]) -> float:
    """Return the seconds from the first trial's start to the last one's end; waiting for cores comes before a start."""
    return float(results[-1]["started_at"] + results[-1]["wall_s"] - results[0]["started_at"])


def parts(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of each part of a trial, and of what lies between two trials."""
    each: list[dict[str, float]] = []
    for result in results:
        phases = {name: seconds for name, seconds in result["phases"].items() if name != "cores"}
        passes = result["passes"].items()
        first = {f"{name}: first call": float(figures["first_call_s"]) for name, figures in passes}
        steps = {f"{name}: steps": sum(figures["warmup_s"]) + sum(figures["step_s"]) for name, figures in passes}
        known = phases | first | steps
        each.append(known | {"rest of the process, and its end": result["wall_s"] - sum(known.values())})
    medians = {name: statistics.median(trial[name] for trial in each) for name in each[0]}
    gaps = [
        after["started_at"] - before["started_at"] - before["wall_s"] for before, after in itertools.pairwise(results)
    ]
    return medians | {BETWEEN: statistics.median(gaps)}


def split(where: dict[str, dict[str, float]]) -> dict[str, float]:
    """Split what lies between two no-ops, by leaving out MLflow and CSV, and then Ray as well."""
    all_s, journal_s, inline_s = (where[label][BETWEEN] for label in (NO_OP, NO_SINK, NO_RAY))
    return {
        "journal, plan, terminal": inline_s,
        "Ray": journal_s - inline_s,
        "MLflow and CSV": all_s - journal_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--only", nargs="+", default=["ours", "tune", "basic"], choices=["ours", "tune", "basic"])
    parser.add_argument("--ray-launcher", metavar="PYTHON")
    options = parser.parse_args()
    trials = options.trials
    rows: dict[str, tuple[float, float]] = {}
    where: dict[str, dict[str, float]] = {}
    for label, overrides in OURS.items() if "ours" in options.only else ():
        total_s, results = ours(trials, *overrides)
        rows[label] = total_s, span_s(results)
        if "device.cpus=1" not in overrides:
            where[label] = parts(results)
    for name in [*options.only, *(["ray_launcher"] if options.ray_launcher else [])]:
        if name in PEERS:
            label, script, arguments = PEERS[name]
            with tempfile.TemporaryDirectory() as folder:
                python = options.ray_launcher if name == "ray_launcher" else None
                seconds = peer(Path(folder), script, str(trials), folder, *arguments, python=python)
            rows[label] = seconds["total_s"], seconds["trials_s"]
    base = next(iter(rows.values()))
    print(f"\n{trials} trials, seconds per trial (ratio to the first row)")
    print(f"{'':36}{'total':>18}{'without start-up':>18}")
    for label, (total_s, trials_s) in rows.items():
        cells = [f"{s / trials:.3f} ({s / b:.2f})" for s, b in zip((total_s, trials_s), base, strict=True)]
        print(f"{label:36}{cells[0]:>18}{cells[1]:>18}")
    if where:
        where[f"{NO_OP}, between two trials"] = split(where)
    for label, seconds_by_part in where.items():
        print(f"\nwhere the time of a trial goes, {label}, median seconds")
        for name, median in seconds_by_part.items():
            print(f"{name:38}{median:8.4f}")


if __name__ == "__main__":
    main()
