"""What bounds a sweep of very many trials on very many nodes: the driver's seconds a trial, measured, and a simulation.

Measures each thing that the driver does once a trial, at the size asked for: compose, plan, choose a node, hand out and
wait through Ray, journal, CSV, MLflow on SQLite, and at the end plots and report. Then simulates a driver that does
these one after another, for trials of several lengths on several numbers of nodes, one trial a node at a time.

usage: python benchmarks/scale.py [--trials 100000] [--nodes 1000]
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from sweeps import plan, schema
from sweeps.compose import Composer
from sweeps.devices import Node
from sweeps.fleet import Fleet, Slot, Waiting, choose
from sweeps.forkserver import ROOT
from tracking import plots, report
from tracking.csv_sink import CsvSink
from tracking.journal import Journal
from tracking.mlflow_sink import MlflowSink
from tracking.record import Classic, Layer, Measurement, Result, Sweep, Trial

LENGTHS_S = (1.0, 10.0, 60.0)
NODES = (1, 10, 100, 1000)
SPREAD = 0.3
"""Relative standard deviation of the simulated trials' lengths."""
ONE_NODE = Node(cpus=1, node_id="0")


def trials_of(count: int) -> list[Trial]:
    return [Trial(model="tiny", batch=batch, protocol=Classic()) for batch in range(1, count + 1)]


def result_of(trial: Trial) -> Result:
    """A result as a trial of `protocol=classic` leaves it: 100 samples a pass, 20 layers."""
    measured = Measurement(first_call_s=0.5, warmup_s=(0.02,) * 10, step_s=(0.0123456,) * 100, stopped="steps")
    layers = tuple(Layer(name=f"conv_{i}", kind="Conv2D", output_shape=(trial.batch, 56, 56, 64)) for i in range(20))
    host = {"hostname": "n1", "cpu": "a processor", "cores": [0], "tensorflow": "2.21"}
    passes = dict.fromkeys(trial.passes, measured)
    return Result(trial=trial, sweep_id="s", status="ok", wall_s=1.0, host=host, passes=passes, layers=layers)


def each(what: Callable[[], object], count: int) -> float:
    """Seconds a call, over `count` calls."""
    began = time.perf_counter()
    for _ in range(count):
        what()
    return (time.perf_counter() - began) / count


def compose_s(count: int = 300) -> float:
    GlobalHydra.instance().clear()
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["model=tiny"], run_mode=RunMode.MULTIRUN)
        composer = Composer(loader, master)
        composer.compose(["model=tiny", "batch=1"])
        batches = iter(range(1, count + 1))
        return each(lambda: schema.read(composer.compose(["model=tiny", f"batch={next(batches)}"])), count)


def plan_s(trials: list[Trial], folder: Path) -> tuple[float, float]:
    """Seconds a trial to make, check and write the plan, and bytes a trial of the file."""
    began = time.perf_counter()
    unique = plan.ordered(plan.unique(trials), None, 0)
    plan.problems(unique, [ONE_NODE])
    with Journal(folder) as journal:
        journal.write_plan(Sweep(sweep_id="s", folder=str(folder), command="c", created_at=0, trials=tuple(unique)))
    return (time.perf_counter() - began) / len(trials), (folder / "plan.json").stat().st_size / len(trials)


def choose_s(trials: list[Trial], nodes: int, count: int = 200) -> float:
    fleet = Fleet([Slot(replace(ONE_NODE, node_id=str(index)), lambda: "") for index in range(nodes)])
    waiting = Waiting(trials)
    for slot in fleet.slots[:-1]:
        slot.take(trials[0].device)

    def one() -> None:
        chosen = choose(waiting, fleet, lambda *_: True)
        if chosen is None:
            raise RuntimeError("expected a free node")
        turn, slot = chosen
        waiting.remove(turn)
        slot.take(turn.trial.device)
        if choose(waiting, fleet, lambda *_: True) is not None:  # the driver asks until there is no room
            raise RuntimeError("expected no free node")
        slot.give_back(turn.trial.device)

    return each(one, min(count, len(trials) - 1))


def ray_s(nodes: int, count: int = 300) -> float:
    """Seconds to hand out one task and wait for it, while as many others are out as there are nodes."""
    import logging

    import ray

    ray.init(num_cpus=2, logging_level=logging.ERROR, include_dashboard=False, log_to_driver=False)
    task = ray.remote(lambda value: value)
    out = [task.options(resources={"never": 1}).remote(None) for _ in range(nodes)]  # there is none: they wait
    payload = result_of(trials_of(1)[0])

    def one() -> None:
        ref = task.options(num_cpus=1).remote(payload)
        ray.wait([*out, ref], num_returns=1, timeout=30)
        ray.get(ref)

    one()
    seconds = each(one, count)
    ray.shutdown()
    return seconds


def sinks_s(results: list[Result], folder: Path) -> dict[str, float]:
    sweep = Sweep(sweep_id="s", folder=str(folder), command="c", created_at=0, trials=tuple(r.trial for r in results))
    taken = {}
    few = results[:200]
    with Journal(folder) as journal:
        taken["journal, with fsync"] = _over(few, journal.append)
    csv = CsvSink()
    csv.open(sweep)
    taken["CSV"] = _over(results, csv.write)
    mlflow = MlflowSink(uri=f"sqlite:///{folder}/mlflow.db", experiment="scale")
    mlflow.open(sweep)
    taken["MLflow on SQLite"] = _over(few, mlflow.write)
    return taken


def end_s(results: list[Result], folder: Path) -> dict[str, float]:
    sweep = Sweep(sweep_id="s", folder=str(folder), command="c", created_at=0, trials=tuple(r.trial for r in results))
    began = time.perf_counter()
    plots.draw(sweep, results, folder)
    drawn = time.perf_counter()
    report.write(sweep, results, folder / "report.html")
    written = time.perf_counter()
    return {"plots": (drawn - began) / len(results), "report": (written - drawn) / len(results)}


def kept_bytes(results: list[Result]) -> float:
    """Memory that the driver keeps for each result until the sweep's end."""
    texts = [json.dumps(result.to_json()) for result in results]
    tracemalloc.start()
    kept = [Result.from_json(json.loads(text)) for text in texts]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(kept)


def _over(results: Iterable[Result], write: Callable[[Result], object]) -> float:
    began = time.perf_counter()
    count = sum(1 for result in results if write(result) is None)
    return (time.perf_counter() - began) / count


def simulate(trials: int, nodes: int, length_s: float, driver_s: float, seed: int = 0) -> tuple[float, float]:
    """Wall seconds, and the share of the nodes' time that is spent in trials.

    A trial ends at its node, waits for its turn at the driver, which needs `driver_s` to take it in and hand out the
    next one to that node.
    """
    generator = random.Random(seed)
    ends: list[float] = []
    free_at = busy_s = 0.0
    for handed_out in range(trials):
        if handed_out >= nodes:
            free_at = max(free_at, heapq.heappop(ends))
        free_at += driver_s
        length = max(0.0, generator.gauss(length_s, SPREAD * length_s))
        busy_s += length
        heapq.heappush(ends, free_at + length)
    wall_s = max(ends) + driver_s
    return wall_s, busy_s / (nodes * wall_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1000)
    options = parser.parse_args()
    trials = trials_of(options.trials)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = {"compose": compose_s()}
        before["plan"], plan_bytes = plan_s(trials, folder)
        during = {"choose a node": choose_s(trials, options.nodes), "Ray: hand out, wait, fetch": ray_s(options.nodes)}
        results = [result_of(trial) for trial in trials[:2000]]
        during |= sinks_s(results, folder)
        after = end_s(results, folder)
    journal_bytes = float(len(json.dumps(results[0].to_json())))
    print(f"\nmilliseconds of the driver a trial ({options.trials:,} trials, {options.nodes:,} nodes)")
    for when, parts in (("before", before), ("during", during), ("after", after)):
        for part, seconds in parts.items():
            print(f"{when:8}{part:32}{1000 * seconds:9.2f}{seconds * options.trials / 60:9.1f} min in all")
    sizes = {"plan.json": plan_bytes, "journal": journal_bytes, "memory": kept_bytes(results[:500])}
    for what, size in sizes.items():
        print(f"{what:10}{size / 1024:8.1f} KiB a trial{size * options.trials / 2**20:10.0f} MiB in all")
    every = sum(during.values())
    ways = {"all sinks": every, "without MLflow": every - during["MLflow on SQLite"]}
    print("\nsimulated: hours, and the share of the nodes' time spent in trials")
    print(f"{'':16}{'trial':>8}" + "".join(f"{nodes:>12,} nodes" for nodes in NODES))
    for way, driver_s in ways.items():
        for length_s in LENGTHS_S:
            cells = [simulate(options.trials, nodes, length_s, driver_s) for nodes in NODES]
            print(f"{way:16}{length_s:6g} s" + "".join(f"{wall / 3600:11.2f} {share:6.0%}" for wall, share in cells))


if __name__ == "__main__":
    main()
