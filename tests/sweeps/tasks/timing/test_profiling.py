"""A profiled step of a real trial: the files it leaves, and their contents."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.machine.cores import available
from sweeps.tasks.timing import profiling
from sweeps.worker.isolate import run_trial
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Compile, Trial
from tracking.schema.protocols import Classic

TRIAL = Trial(model="alexnet_conv", batch=1, protocol=Classic(burn_in=0, steps=2), profile=True)


def profile(trial: Trial, server: str, folder: Path) -> Path:
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    own = TrialFolder(folder)
    result = run_trial(trial, sweep_id="s", server=server, cores=available(), env=cpu, folder=own)
    assert result.ok, result.error
    assert [len(measured.step_s) for measured in result.passes.values()] == [2, 2], "the profiled step is not timed"
    assert "no profile" not in own.log.read_text()
    return own.files / "profile"


@pytest.mark.parametrize(
    ("compiler", "forward", "both"),
    [
        ("graph", "FusedConv2D", "Conv2DBackpropFilter"),
        ("xla", "convolution", "convolution"),
        ("eager", "Conv2D", "Conv2DBackpropFilter"),
    ],
)
def test_trace_and_top_operations(compiler: Compile, forward: str, both: str, server: str, tmp_path: Path) -> None:
    place = profile(replace(TRIAL, compile=compiler), server, tmp_path)
    assert sorted(path.name for path in place.iterdir()) == ["forward", "forward_backward"]
    for name, word in (("forward", forward), ("forward_backward", both)):
        trace = json.loads(gzip.decompress((place / name / "trace.json.gz").read_bytes()))
        spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
        assert any(word in span["name"] for span in spans)
        assert min(span["ts"] for span in spans) >= 0
        named = {(event["pid"], event["tid"]) for event in trace["traceEvents"] if event["name"] == "thread_name"}
        assert {(span["pid"], span["tid"]) for span in spans} <= named
        table = json.loads((place / name / "top_ops.json").read_text())
        assert table["columns"] == ["op", "calls", "total ms", "share"]
        ops = {op: calls for op, calls, _, share in table["data"] if share > 0.05}
        # Convolutions are nearly all of this net's work, five in a forward pass, however they are called.
        assert max(calls for op, calls in ops.items() if word in op) >= 5, table
        assert sum(share for *_, share in table["data"]) == pytest.approx(1, abs=0.01)
        assert [row[2] for row in table["data"]] == sorted((row[2] for row in table["data"]), reverse=True)
        (record,) = (place / name).glob("plugins/profile/*/*.xplane.pb")  # where TensorBoard looks
        assert [op.name for op in profiling.top_ops(profiling.read(record))] == [row[0] for row in table["data"]]


def test_nothing_is_profiled_unless_the_trial_says_so(server: str, tmp_path: Path) -> None:
    trial = replace(TRIAL, model="tiny", profile=False)
    run_trial(trial, sweep_id="s", server=server, cores=available(), env={}, folder=TrialFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_a_profile_that_fails_costs_no_measurement(server: str, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("where a folder should be")
    result = run_trial(
        replace(TRIAL, model="tiny"),
        sweep_id="s",
        server=server,
        cores=available(),
        env={"CUDA_VISIBLE_DEVICES": "-1"},
        folder=TrialFolder(tmp_path),
    )
    assert result.ok
    assert len(result.passes) == 2
    assert "no profile" in (tmp_path / "log.txt").read_text()


def space(*planes: tuple[str, dict[str, list[tuple[str, int, int, dict[str, Any]]]]]) -> Any:
    """A record with these planes: lines of (name, begin, duration, stats) in picoseconds."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    made = xplane_pb2.XSpace()
    for plane_name, lines in planes:
        plane = made.planes.add(name=plane_name)
        for line_name, events in lines.items():
            line = plane.lines.add(name=line_name, timestamp_ns=5)
            for name, begin, duration, stats in events:
                number = len(plane.event_metadata) + 1
                plane.event_metadata[number].name = name
                if (kind := name.rpartition(":")[2]).isalnum() and "::" not in name:
                    plane.event_metadata[number].display_name = kind
                event = line.events.add(metadata_id=number, offset_ps=begin, duration_ps=duration)
                for key, value in stats.items():
                    kept = len(plane.stat_metadata) + 1
                    plane.stat_metadata[kept].name = key
                    event.stats.add(
                        metadata_id=kept, **{"str_value" if isinstance(value, str) else "int64_value": value}
                    )
    return made


def test_time_within_another_operation_counts_once() -> None:
    events = [("a/while:While", 0, 10_000, {}), ("b:Conv2D", 1_000, 4_000, {}), ("c:Conv2D", 6_000, 1_000, {})]
    ops = profiling.top_ops(space(("/host:CPU", {"worker": [*events, ("Executor::Run", 0, 50_000, {})]})))
    assert {(op.name, op.calls, round(op.total_ms, 9)) for op in ops} == {("Conv2D", 2, 5e-6), ("While", 1, 5e-6)}
    assert [op.share for op in ops] == pytest.approx([0.5, 0.5])


def test_an_operation_of_xlas_lasts_until_its_end_is_marked() -> None:
    started = [
        ("convolution.3", 0, 100, {"hlo_op": "convolution.3", "_p": 7}),
        ("add.1", 200, 300, {"hlo_op": "add.1"}),
    ]
    ended = [("end: convolution.3", 9_000, 10, {"_c": 7})]
    ops = profiling.top_ops(space(("/host:CPU", {"one": started, "other": ended})))
    assert {op.name: op.total_ms for op in ops} == pytest.approx({"convolution": 9e-6, "add": 3e-7})


def test_the_kernels_of_a_gpu_count_by_what_they_belong_to() -> None:
    kernels = [("sgemm_128x64", 0, 3_000, {"tf_op": "net/fc:MatMul"}), ("MemcpyD2D", 5_000, 1_000, {})]
    host = {"worker": [("net/fc:MatMul", 0, 90_000, {})]}
    ops = profiling.top_ops(space(("/host:CPU", host), ("/device:GPU:0", {"Stream #13": kernels})))
    assert {op.name: op.total_ms for op in ops} == pytest.approx({"MatMul": 3e-6, "MemcpyD2D": 1e-6})


def test_a_long_tail_is_one_row() -> None:
    events = [(f"x:Op{i}", 10 * i, 10, {}) for i in range(profiling.TOP + 5)]
    ops = profiling.top_ops(space(("/host:CPU", {"worker": events})))
    assert (len(ops), ops[-1].name, ops[-1].calls) == (profiling.TOP + 1, "everything else", 5)
    assert sum(op.share for op in ops) == pytest.approx(1)
