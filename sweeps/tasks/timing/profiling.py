"""Profiles one more step of each pass with TensorFlow's profiler, after all timing.

Each pass leaves three things in the trial's `files/profile/<pass>/`: the profiler's own record
`plugins/profile/.../*.xplane.pb`, which TensorBoard opens; `trace.json.gz`, the same in the Trace Event Format, which
Perfetto and chrome://tracing open; and `top_ops.json`, an MLflow table of the operations that took longest.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from sweeps.worker import this_trial
from tracking.record import Pass

TOP = 30
"""Rows of the table; the rest is one row, `everything else`."""
_NOISE = "ThreadpoolListener::"
_EAGER = "EagerLocalExecute: "
_END = "end: "
_SYNC = "SyncDevice"


class Op(NamedTuple):
    """A kind of operation in one step, all its calls together."""

    name: str
    calls: int
    total_ms: float
    """Without the operations nested within it; those on different threads may have run at the same time."""
    share: float
    """Share of the time of all operations."""


def record(steps: Mapping[Pass, Callable[[], Any]]) -> None:
    """Run one step of each pass under the profiler and write its findings into the trial's files.

    Each step must have run before, so that nothing is traced or compiled. Failures are printed to the trial's log and
    cost no measurement.
    """
    for name, step in steps.items():
        try:
            _record(step, this_trial.folder().profile(name), this_trial.folder().top_ops(name))
        except Exception:
            print(f"no profile of {name}:", traceback.format_exc(), flush=True)


def _record(step: Callable[[], Any], folder: Path, table_file: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # an earlier try's
    folder.mkdir(parents=True)
    tf.test.experimental.sync_devices()
    with tf.profiler.experimental.Profile(str(folder)):
        step()
        tf.test.experimental.sync_devices()
    space = read(next(folder.rglob("*.xplane.pb")))
    (folder / "trace.json.gz").write_bytes(gzip.compress(json.dumps(chrome_trace(space)).encode(), mtime=0))
    rows = [[op.name, op.calls, round(op.total_ms, 4), round(op.share, 4)] for op in top_ops(space)]
    table = {"columns": ["op", "calls", "total ms", "share"], "data": rows}
    table_file.write_text(json.dumps(table), encoding="utf-8")


def read(path: Path) -> Any:
    """Read the profiler's own record, an XSpace message."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    return space


def chrome_trace(space: Any) -> dict[str, Any]:
    """Return the record in the Trace Event Format, in microseconds: a process per plane, a thread per line."""
    start = min((line.timestamp_ns for plane in space.planes for line in plane.lines), default=0)
    events: list[dict[str, Any]] = []
    for number, plane in enumerate(space.planes, 1):
        events.append({"ph": "M", "pid": number, "name": "process_name", "args": {"name": plane.name}})
        for thread, line in enumerate(plane.lines, 1):
            where = {"pid": number, "tid": thread}
            events.append({"ph": "M", **where, "name": "thread_name", "args": {"name": line.display_name or line.name}})
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if not name.startswith(_NOISE):
                    begin = (line.timestamp_ns - start) / 1e3 + event.offset_ps / 1e6
                    times = {"ts": begin, "dur": event.duration_ps / 1e6}
                    events.append({"ph": "X", **where, "name": name, **times, "args": _stats(plane, event)})
    return {"displayTimeUnit": "ms", "traceEvents": events}


def top_ops(space: Any) -> list[Op]:
    """Return the operations of the step, longest first: the GPU's where there are any, else the CPU's."""
    used = [plane for plane in space.planes if any(line.events for line in plane.lines)]
    times_ms: dict[str, list[float]] = defaultdict(list)
    for plane in [plane for plane in used if plane.name.startswith("/device:")] or used:
        ends = _ends(plane)
        for line in plane.lines:
            for name, own_ms in _own_times(plane, line, ends):
                times_ms[name].append(own_ms)
    total = sum(map(sum, times_ms.values()))
    ops = [Op(name, len(each), sum(each), sum(each) / total if total else 0.0) for name, each in times_ms.items()]
    ops.sort(key=lambda op: -op.total_ms)
    rest = ops[TOP:]
    if rest:
        calls, spent = sum(op.calls for op in rest), sum(op.total_ms for op in rest)
        ops = [*ops[:TOP], Op("everything else", calls, spent, sum(op.share for op in rest))]
    return ops


def _own_times(plane: Any, line: Any, ends: Mapping[int, int]) -> Iterator[tuple[str, float]]:
    """Yield each operation on a thread and its milliseconds, less those of the operations nested within it.

    On the CPU, XLA starts some operations asynchronously: those last until the time in `ends`.
    """
    around: list[tuple[int, int]] = []  # the end of each operation that is still running, and its place among the names
    names: list[str] = []
    own_ps: list[int] = []
    for event in sorted(line.events, key=lambda event: (event.offset_ps, -event.duration_ps)):
        if (name := _op(plane, event)) is None:
            continue
        begin, end = event.offset_ps, event.offset_ps + event.duration_ps
        if (later := ends.get(_stats(plane, event).get("_p", -1))) is not None:
            yield name, max(end - begin, later - line.timestamp_ns * 1000 - begin) / 1e9
            continue
        while around and around[-1][0] <= begin:
            around.pop()
        if around:
            own_ps[around[-1][1]] -= end - begin
        around.append((end, len(names)))
        names.append(name)
        own_ps.append(end - begin)
    yield from ((name, max(0, time_ps) / 1e9) for name, time_ps in zip(names, own_ps, strict=True))


def _ends(plane: Any) -> dict[int, int]:
    """Return when asynchronous operations of XLA ended, in picoseconds, by the number that ties the two events."""
    return {
        _stats(plane, event).get("_c", -1): line.timestamp_ns * 1000 + event.offset_ps
        for line in plane.lines
        for event in line.events
        if plane.event_metadata[event.metadata_id].name.startswith(_END)
    }


def _op(plane: Any, event: Any) -> str | None:
    """Return the kind of operation of an event; None for anything else, such as the runtime's housekeeping.

    XLA's operations carry `hlo_op` and end in a number; those of a graph, and the ones that GPU kernels belong to, are
    called `<name>:<kind>`; without a graph, each is an event of the runtime. oneDNN's prefix is left out.
    """
    metadata = plane.event_metadata[event.metadata_id]
    stats = _stats(plane, event)
    if "hlo_op" in stats:
        return re.sub(r"([._]\d+)+$", "", str(stats["hlo_op"]))
    if plane.name.startswith("/device:"):
        return str(stats["tf_op"]).rpartition(":")[2] if stats.get("tf_op") else metadata.name
    name, _, kind = metadata.name.rpartition(":")
    if metadata.name.startswith(_EAGER):
        kind = metadata.name.removeprefix(_EAGER)
    elif not name or kind != metadata.display_name:
        return None
    return None if kind.startswith("__") or kind == _SYNC else re.sub("^_Mkl(Native)?", "", kind)


def _stats(plane: Any, event: Any) -> dict[str, Any]:
    """Return what an event carries besides its time; a reference leads to a string that is stored once."""
    stats = {}
    for stat in event.stats:
        kind = stat.WhichOneof("value")
        value = getattr(stat, kind) if kind else ""
        if kind == "ref_value":
            value = plane.stat_metadata[value].name
        elif kind == "bytes_value":
            value = f"{len(value)} bytes"
        stats[plane.stat_metadata[stat.metadata_id].name] = value
    return stats
