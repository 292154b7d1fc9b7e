from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import threading
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.machine.cores import available
from sweeps.worker import messages, wire
from sweeps.worker.isolate import Heard, run_trial
from sweeps.worker.wire import MessageError
from tracking.folder.trial_folder import TrialFolder
from tracking.record import PASSES, Failure, Layer, Result, Trial
from tracking.schema.measurement import Measurement
from tracking.schema.protocols import Classic

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
TINY = Trial(model="tiny", batch=2, passes=("forward",), protocol=Classic(burn_in=1, steps=3))
MEASURED = Measurement(first_call_s=1.0, warmup_s=(), step_s=(0.1, 0.2), stopped="steps")
LAYER = Layer(name="a", kind="Dense", output_shape=(2, 0))


def run(server: str, tmp_path: Path, target: str, passes: tuple[Any, ...] = ("forward",), **arguments: Any) -> Result:
    trial = replace(TINY, target=f"tests.support.{target}", model_args=arguments, passes=passes, timeout_s=60.0)
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    result = run_trial(trial, sweep_id="s", server=server, cores=available(), env=cpu, folder=TrialFolder(tmp_path))
    assert Result.from_json(json.loads(json.dumps(result.to_json()))).to_json() == result.to_json()
    return result


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("'metrics'", "expected one of the messages curves, done,"),
        ("Metrics({'loss': 10**400})", "metrics.figures.loss: expected a finite number. Received: an integer of 1329"),
        ("Metrics({'loss': 'low'})", "metrics.figures.loss: expected a number. Received: 'low'"),
        (
            "Metrics({'loss': Fraction(10**400)})",
            "metrics: expected a number. Received: a value of type Fraction (Ov",
        ),
        ("Metrics({'loss': np.zeros(2)})", "metrics.figures.loss: expected a number. Received: list of 2"),
        ("Metrics({'loss': object()})", "metrics: expected a number. Received: a value of type object"),
        ("Metrics({'x' * 300: 1})", "metrics: expected a name of 1 to 250 characters"),
        ("Metrics({'x' * 60_000_000: 1})", f"expected a message of at most {wire.LONGEST} bytes. Received: 600000"),
        ("Metrics({str(i): 1 for i in range(2000)})", "metrics: expected at most 1000 figures. Received: 2000"),
        ("Metrics('x' * 60_000_000)", f"expected a message of at most {wire.LONGEST} bytes. Received: 600000"),
        ("Metrics('low')", "metrics.figures: expected an object. Received: 'low'"),
        (
            "Failed('ok', {'kind': 'a', 'message': 'b'})",
            "failed.status: expected one of error, oom, crashed. Received: 'ok'",
        ),
        ("PassMeasured('forward_backward', {})", "pass.measurement: expected the keys first_call_s"),
        ("Phase('build', float('nan'))", "phase.seconds: expected a number from 0"),
        ("Host({'node_id': 'x'})", "host: expected facts that a trial may report. Received: node_id"),
        ("Host({'in_force': 3})", "host.facts: expected in_force to be an object of objects"),
        ("Host({'a': Path('/')})", "host: expected a number. Received: a value of type"),
        ("Layers([{'name': 'a'}])", "layers.rows[0]: expected the keys kind, output_shape"),
        ("Curves({'loss': [(0.5, 1)]})", "curves.points.loss[0][0]: expected a whole number. Received: 0.5"),
    ],
)
def test_a_message_that_breaks_its_schema_is_the_trials_error(
    server: str, tmp_path: Path, message: str, words: str
) -> None:
    expect_message_error(run(server, tmp_path, "models.unruly.saying", message=message), words)


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("metric", {"figures": {"loss": 1}}, "Received: 'metric'. Did you mean 'metrics'?"),
        ("trial", None, "expected one of the messages curves, done,"),
        ("quality", {"reasons": ["doubtful"]}, "expected one of the messages curves, done,"),
        ("pid", 1, "pid: expected it once"),
        ("exit", "0", "exit: expected a whole number. Received: '0'"),
        ("metrics", {"loss": 1}, "metrics: expected the key figures"),
        ("metrics", {"figures": {}, "figure": 1}, "metrics.figure: expected a field of a Metrics, such as figures"),
        ("metrics", ["loss", 1], "metrics: expected an object. Received: list of 2"),
        ("done", None, "done: expected an object. Received: None"),
    ],
)
def test_a_message_past_the_tasks_own_send_is_held_to_its_schema_too(
    server: str, tmp_path: Path, kind: str, content: object, words: str
) -> None:
    expect_message_error(run(server, tmp_path, "models.unruly.saying_plainly", kind=kind, content=content), words)


def expect_message_error(result: Result, words: str) -> None:
    assert result.status == "error"
    assert result.error
    assert result.error.kind == "MessageError"
    assert words in result.error.message


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("{'a': np.float32(0.5), 'b': np.int64(3), 'c': np.bool_(1), 'd': True}", [0.5, 3, 1, 1]),
        ("{'a': tf.constant(0.5), 'b': tf.constant(3), 'c': tf.Variable(1.5)}", [0.5, 3, 1.5]),
        ("{'a': tf.constant(2, tf.bfloat16), 'b': np.array(2.5)}", [2.0, 2.5]),
        ("{'a': Decimal('0.25'), 'b': Fraction(1, 4), 'c': float('inf')}", [0.25, 0.25, float("inf")]),
    ],
)  # fmt: skip
def test_numbers_of_any_library_are_figures(server: str, tmp_path: Path, value: str, plain: list[float]) -> None:
    result = run(server, tmp_path, "models.unruly.saying", message=f"Metrics({value})")
    assert result.ok, result.error
    assert list(result.metrics.values()) == plain
    assert {type(number) for number in result.metrics.values()} <= {int, float}


def test_errors_that_are_hard_to_write_down(server: str, tmp_path: Path) -> None:
    result = run(server, tmp_path, "models.failing.failing_with", what="surrogate")
    assert result.error
    assert result.error.message == r"half a pair: \ud800, red:"
    result.error.detail.encode()
    result = run(server, tmp_path, "models.failing.failing_with", what="long")
    assert result.error
    assert result.error.message.endswith("characters left out)")
    assert len(result.error.message) <= messages.LONGEST_SENTENCE
    assert len(result.error.detail) <= messages.LONGEST_DETAIL
    result = run(server, tmp_path, "models.failing.failing_with", what="speechless")
    assert (result.status, result.error) != ("ok", None)
    assert result.error
    assert result.error.kind == "UnspeakableError"


@pytest.mark.parametrize(
    ("count", "text", "words"),
    [
        (50_000_000, "x", f"expected a message of at most {wire.LONGEST} bytes. Received: 50000000 bytes"),
        (4, "abcd", "expected a message. Received: 4 other bytes"),
        (10_000, "", ""),
    ],
    ids=["too long", "no message", "unfinished"],
)
def test_bytes_that_are_no_message(server: str, tmp_path: Path, count: int, text: str, words: str) -> None:
    trial = replace(
        TINY,
        target="tests.support.models.unruly.saying_bytes",
        model_args={"count": count, "text": text},
        timeout_s=3.0,
    )
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    result = run_trial(trial, sweep_id="s", server=server, cores=available(), env=cpu, folder=TrialFolder(tmp_path))
    assert result.error
    assert (result.status, result.error.kind) == (("error", "MessageError") if words else ("timeout", "Timeout"))
    assert words in result.error.message


def hear(heard: Heard, message: messages.Message) -> None:
    heard.take(messages.received(*messages.encoded(message)))


def test_a_pass_that_was_complete_is_kept() -> None:
    heard = Heard(PASSES)
    forward = messages.encoded(messages.PassMeasured("forward", MEASURED))
    heard.take(messages.received(*forward))
    with pytest.raises(MessageError, match="expected no pass, as the trial has it"):
        Heard(()).take(messages.received(*forward))
    broken = messages.PassMeasured("forward_backward", replace(MEASURED, step_s=(float("nan"),)))
    with pytest.raises(MessageError, match=r"pass.measurement.step_s\[0\]"):
        hear(heard, broken)
    assert heard.passes == {"forward": MEASURED}


def test_a_trial_reports_a_hundred_phases_at_most() -> None:
    heard = Heard(())
    for index in range(100):
        hear(heard, messages.Phase(f"phase {index}", 1.0))
    hear(heard, messages.Phase("phase 0", 2.0))
    with pytest.raises(MessageError, match="at most 100 phases"):
        hear(heard, messages.Phase("one more", 1.0))
    assert heard.phases["phase 0"] == 2.0


def test_every_message_comes_through_as_it_was_sent() -> None:
    sent: list[messages.Message] = [
        messages.Host({"hostname": "a", "in_force": {"forward": {"layout": "channels_last"}}}),
        messages.Layers((LAYER,)),
        messages.Phase("build", 0.5),
        messages.PassMeasured("forward", MEASURED),
        messages.Metrics({"val/loss": float("inf")}),
        messages.Curves({"train/loss": ((0, 1.5), (1, 0.5))}),
        messages.Limits({"copy_gb_per_s": 10.0}),
        messages.Failed("oom", Failure(kind="MemoryError", message="too much")),
        messages.Done(),
    ]
    assert [messages.received(*wire.decode(pickle.dumps(messages.encoded(message)))) for message in sent] == sent


def test_the_end_is_heard_of_a_process_that_died_in_mid_message() -> None:
    ours, theirs = socket.socketpair()
    inbox = wire.Inbox(ours.fileno())
    theirs.sendall(struct.pack("!i", 1000) + b"the beginning")
    server = Connection(theirs.detach())
    server.send(("exit", 9))
    server.close()
    assert [list(inbox.arrived()), list(inbox.arrived())] == [[], [("exit", 9)]]
    ours.close()


class Wicked:
    """What runs where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(Path("made by a pickle").absolute()),)


def test_nothing_runs_where_a_message_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (Wicked(), np.float32(1), [Path()], {1: Trial(model="a", batch=1)}, MEASURED, LAYER):
        with pytest.raises(MessageError, match="expected plain values"):
            wire.decode(pickle.dumps(("metrics", value)))
    assert list(tmp_path.iterdir()) == []
    bomb: Any = [1.0] * 100
    for _ in range(30):
        bomb = [bomb] * 10
    with pytest.raises(MessageError, match="expected at most"):
        wire.decode(pickle.dumps(("x", bomb)))


CONTENT = st.sampled_from([field.name for kind in messages._KINDS.values() for field in fields(kind)])
FIELDS = st.sampled_from([*wire.plain(MEASURED), "mean_s"])
ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.sampled_from([MEASURED, LAYER, Failure(kind="\ud800", message="\x1b"), np.float32(1), 10**400, 1j, "forward"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    | st.tuples(inner, inner) | st.builds(lambda key, value: wire.plain(MEASURED) | {key: value}, FIELDS, inner)
    | st.dictionaries(CONTENT, inner, max_size=2),
    max_leaves=12,
)  # fmt: skip
KINDS = st.sampled_from([*messages._KINDS, "pid", "exit", "none"]) | st.text(max_size=5)


@settings(max_examples=EXAMPLES)
@given(st.lists(st.tuples(KINDS, ODD) | st.binary(max_size=64), max_size=6), st.booleans())
def test_whatever_a_process_sends_is_a_result_or_its_error(sent: list[Any], framed: bool) -> None:
    ours, theirs = socket.socketpair()

    def speak() -> None:
        connection = Connection(theirs.detach())
        for message in sent:
            if not isinstance(message, bytes):
                connection.send(message)
            elif framed:
                connection.send_bytes(message)
            else:
                os.write(connection.fileno(), message)
        connection.send(("exit", 0))
        connection.close()

    speaker = threading.Thread(target=speak)
    speaker.start()
    heard, inbox = Heard(PASSES), wire.Inbox(ours.fileno())
    try:
        while heard.exit_status is None:
            try:
                for kind, value in inbox.arrived():
                    heard.take(messages.received(kind, value))
            except MessageError as error:
                messages.failure("MessageError", str(error)).message.encode()
    except EOFError:
        pass
    speaker.join()
    ours.close()
    result = heard.result(TINY, "s", heard.failed)
    text = json.dumps(result.to_json())
    assert json.dumps(Result.from_json(json.loads(text)).to_json()) == text
    assert "\\ud800" not in text.replace("\\\\ud800", "")
