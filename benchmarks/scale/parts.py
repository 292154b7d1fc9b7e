"""The parts of a sweep that `driver.py` leaves out, each measured alone: compose, Ray, MLflow, plots, report."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from benchmarks.scale.samples import result_of, sweep_of, trials_of
from sweeps.dispatch.task_inbox import Inbox
from sweeps.process.project import ROOT
from sweeps.request import options, schema
from sweeps.request.compose import Composer
from tracking.plots import sweep_plots
from tracking.record import Result
from tracking.report import html_page
from tracking.sinks.mlflow.sink import MlflowSink

WRITES = 200
"""Results that MLflow gets, of those that there are."""


def compose_s(count: int = 300) -> float:
    """Return the seconds that composing and reading one point takes."""
    GlobalHydra.instance().clear()
    options.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["model=tiny"], run_mode=RunMode.MULTIRUN)
        composer = Composer(loader, master)
        composer.compose(["model=tiny", "batch=1"])
        batches = iter(range(1, count + 1))
        return _seconds_per_call(lambda: schema.read(composer.compose(["model=tiny", f"batch={next(batches)}"])), count)


def ray_s(nodes: int, count: int = 300) -> float:
    """Return the seconds to hand out one task and wait for it, while as many others are out as there are nodes."""
    import ray

    ray.init(num_cpus=2, logging_level=logging.ERROR, include_dashboard=False, log_to_driver=False)
    task = ray.remote(lambda value: value)
    inbox = Inbox()
    waiting = [task.options(resources={"never": 1}).remote(None) for _ in range(nodes)]  # no node has that resource
    for ref in waiting:
        inbox.expect(ref)
    payload = result_of(trials_of(1)[0])

    def one() -> None:
        future = inbox.expect(task.options(num_cpus=1).remote(payload))
        inbox.next(30)
        future.result()

    one()
    seconds = _seconds_per_call(one, count)
    ray.shutdown()
    return seconds


def mlflow_s(results: list[Result], folder: Path) -> float:
    """Return the seconds that writing one result to MLflow on SQLite takes."""
    sink = MlflowSink(uri=f"sqlite:///{folder}/mlflow.db", experiment="scale")
    sink.open(sweep_of([result.trial for result in results], str(folder)))
    written = iter(results[:WRITES])
    return _seconds_per_call(lambda: sink.write(next(written)), min(WRITES, len(results)))


def end_s(results: list[Result], folder: Path) -> dict[str, float]:
    """Return the seconds per result that plots and report take at the end of a sweep."""
    sweep = sweep_of([result.trial for result in results], str(folder))
    began = time.perf_counter()
    sweep_plots.draw(sweep, results, folder)
    drawn = time.perf_counter()
    html_page.write(sweep, results, folder / "report.html")
    written = time.perf_counter()
    return {"plots": (drawn - began) / len(results), "report": (written - drawn) / len(results)}


def kept_bytes(results: list[Result]) -> float:
    """Return the bytes of memory that the driver keeps for each result until the end of the sweep."""
    texts = [json.dumps(result.to_json()) for result in results]
    tracemalloc.start()
    kept = [Result.from_json(json.loads(text)) for text in texts]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(kept)


def _seconds_per_call(call: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count
