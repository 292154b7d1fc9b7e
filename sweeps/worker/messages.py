"""The messages that a trial's process may send: one class per kind, and limits on their size.

A task builds messages and sends them; their fields are the schema that the driver's side holds them to. Whatever comes
out of `received` is well typed, short, and printable wherever it is shown. What does not fit raises MessageError, which
is the failure of this trial and of no other.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from sweeps.worker import wire
from sweeps.worker.wire import MessageError, plain
from tracking import record
from tracking.record import Pass
from tracking.schema.fields import Figure, Seconds, host_problem
from tracking.schema.measurement import Measurement
from tracking.schema.reading import Also, FormatError, Within, read, shown
from tracking.text.printable import printable, printable_lines

LONGEST_NAME = 250
"""Characters of a name; MLflow allows as many for the name of a metric."""
LONGEST_TEXT = 5_000
"""Characters of a fact about the host; MLflow allows as many for a tag."""
LONGEST_SENTENCE = 2_000
LONGEST_DETAIL = 20_000
MOST_FIGURES = 1_000
MOST_POINTS = 1_000_000
MOST_LAYERS = 50_000
MOST_FACTS = 10_000
_FROM_THE_DRIVER = ("node_id", "node_ip", "lost_before")
"""Facts about a trial's host that only the driver may add."""


@dataclass(frozen=True)
class Message:
    """A message from a trial's process; on the wire, `kind` is its name and the fields are its content."""

    kind: ClassVar[str]

    @classmethod
    def read(cls, content: Any) -> Self:
        """Return the message with this content. Raises FormatError where the content does not fit the fields."""
        message: Self = read(cls, content, cls.kind)
        return message

    def fitted(self) -> Self:
        """Return the message with printable texts of bounded length. Raises MessageError where it is too large."""
        return self


@dataclass(frozen=True)
class Host(Message):
    """Facts about the machine and the process. Each message replaces the one before."""

    kind: ClassVar[str] = "host"
    facts: Annotated[Mapping[str, Any], Also(host_problem)]

    def fitted(self) -> Self:
        if reserved := [key for key in _FROM_THE_DRIVER if key in self.facts]:
            raise MessageError(f"host: expected facts that a trial may report. Received: {', '.join(reserved)}")
        left = MOST_FACTS

        def clean(value: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise MessageError(f"host: expected at most {MOST_FACTS} facts. Received: more")
            if isinstance(value, str):
                return _text(value, LONGEST_TEXT)
            if isinstance(value, list):
                return [clean(each) for each in value]
            if isinstance(value, dict):
                return {_name(key, "host"): clean(each) for key, each in value.items()}
            return value

        return replace(self, facts={_name(key, "host"): clean(value) for key, value in self.facts.items()})


@dataclass(frozen=True)
class Layers(Message):
    """The net's layers, in order."""

    kind: ClassVar[str] = "layers"
    rows: tuple[record.Layer, ...]

    def fitted(self) -> Self:
        _expect_at_most(MOST_LAYERS, self.rows, "layers", "layers")
        return replace(
            self,
            rows=tuple(
                replace(row, name=_short_name(row.name or "-"), kind=_short_name(row.kind or "-")) for row in self.rows
            ),
        )


@dataclass(frozen=True)
class Phase(Message):
    """The duration of a part of the trial outside its passes, such as building the net."""

    kind: ClassVar[str] = "phase"
    name: str
    seconds: Seconds

    def fitted(self) -> Self:
        return replace(self, name=_name(self.name, "phase"))


@dataclass(frozen=True)
class PassMeasured(Message):
    """The measurement of one of the trial's passes."""

    kind: ClassVar[str] = "pass"
    name: Pass
    measurement: Measurement

    def fitted(self) -> Self:
        evidence = self.measurement.evidence
        _expect_at_most(MOST_FIGURES, evidence, "pass", "pieces of evidence")
        measurement = replace(
            self.measurement,
            stopped=_short_name(self.measurement.stopped or "-"),
            evidence={_name(key, "pass"): value for key, value in evidence.items()},
        )
        return replace(self, measurement=measurement)


@dataclass(frozen=True)
class Metrics(Message):
    """A task's figures besides times, by MLflow key, e.g. `val/accuracy`. True and false become 1 and 0."""

    kind: ClassVar[str] = "metrics"
    figures: Mapping[str, Figure]

    @classmethod
    def read(cls, content: Any) -> Self:
        figures = content.get("figures") if isinstance(content, dict) else None
        if isinstance(figures, dict):
            numbers = {key: int(each) if isinstance(each, bool) else each for key, each in figures.items()}
            content = {**content, "figures": numbers}
        return super().read(content)

    def fitted(self) -> Self:
        return replace(self, figures=_named(self.figures, self.kind, "figures"))


@dataclass(frozen=True)
class Curves(Message):
    """Histories of such figures as (step, value), by MLflow key. Each message replaces the one before."""

    kind: ClassVar[str] = "curves"
    points: Mapping[str, tuple[tuple[int, Figure], ...]]

    def fitted(self) -> Self:
        count = sum(map(len, self.points.values()))
        if count > MOST_POINTS:
            raise MessageError(f"curves: expected at most {MOST_POINTS} points. Received: {count}")
        return replace(self, points=_named(self.points, self.kind, "curves"))


@dataclass(frozen=True)
class Limits(Message):
    """The limits of a device, and how disturbed their measurement was (`sweeps.tasks.calibrate`)."""

    kind: ClassVar[str] = "limits"
    figures: Mapping[str, float]

    def fitted(self) -> Self:
        return replace(self, figures=_named(self.figures, self.kind, "figures"))


@dataclass(frozen=True)
class Failed(Message):
    """The failure of the trial."""

    kind: ClassVar[str] = "failed"
    status: Literal["error", "oom", "crashed"]
    failure: record.Failure

    def fitted(self) -> Self:
        return replace(self, failure=failure(self.failure.kind, self.failure.message, self.failure.detail))


@dataclass(frozen=True)
class Done(Message):
    """The end of the task, without a failure."""

    kind: ClassVar[str] = "done"


@dataclass(frozen=True)
class Started:
    """The start of a call's process, sent by the process before the call's own code runs."""

    pid: int


@dataclass(frozen=True)
class Ended:
    """The end of a call's process, sent by the fork server, last of all."""

    wait_status: int


Send = Callable[[Message], None]
"""Sends a message of a task."""
_KINDS: Mapping[str, type[Message]] = {
    each.kind: each for each in (Host, Layers, Phase, PassMeasured, Metrics, Curves, Limits, Failed, Done)
}
_PID = Annotated[int, Within(1, 2**31)]
_WAIT_STATUS = Annotated[int, Within(0, 2**16)]


def sender(send: wire.Send) -> Send:
    """Return a `send` for messages, on top of the connection's own.

    It raises MessageError for anything but a message, and for one with content that cannot be made plain.
    """

    def send_message(message: Message) -> None:
        send(*encoded(message))

    return send_message


def encoded(message: Message) -> tuple[str, Any]:
    """Return a message's kind and plain content, as they go over the wire. Raises MessageError."""
    if not isinstance(message, Message):
        raise MessageError(f"expected one of the messages {', '.join(sorted(_KINDS))}. Received: {shown(message)}")
    try:
        return message.kind, plain(message)
    except MessageError as error:
        raise MessageError(f"{message.kind}: {error}") from error


def received(kind: str, content: Any) -> Message | Started | Ended:
    """Return the message with this kind and content. Raises MessageError where there is no such message."""
    try:
        if kind == "pid":
            return Started(read(_PID, content, kind))
        if kind == "exit":
            return Ended(read(_WAIT_STATUS, content, kind))
        if kind in _KINDS:
            return _KINDS[kind].read(content).fitted()
    except FormatError as error:
        raise MessageError(str(error)) from error
    near = difflib.get_close_matches(kind[:100], _KINDS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise MessageError(f"expected one of the messages {', '.join(sorted(_KINDS))}. Received: {shown(kind)}.{hint}")


def failure(kind: str, message: str, detail: str = "") -> record.Failure:
    """Return a failure with printable texts of bounded length; a long detail keeps its end, which says most."""
    return record.Failure(
        kind=_short_name(kind), message=_text(message, LONGEST_SENTENCE), detail=printable_lines(_end(detail))
    )


def _expect_at_most(most: int, values: Sized, kind: str, what: str) -> None:
    if len(values) > most:
        raise MessageError(f"{kind}: expected at most {most} {what}. Received: {len(values)}")


def _named(values: Mapping[str, Any], kind: str, what: str) -> dict[str, Any]:
    _expect_at_most(MOST_FIGURES, values, kind, what)
    return {_name(key, kind): value for key, value in values.items()}


def _name(text: str, kind: str) -> str:
    """Return the name, printable. Raises MessageError where it is too long: cut, it might equal another name."""
    name = printable(text[: 2 * LONGEST_NAME])
    if len(text) <= LONGEST_NAME and len(name) <= LONGEST_NAME and name.strip():
        return name
    raise MessageError(
        f"{kind}: expected a name of 1 to {LONGEST_NAME} characters. Received: {shown(text)} ({len(text)} characters)"
    )


def _short_name(text: str) -> str:
    """Return the name, printable and cut where it is too long; only for names that are not keys."""
    name = printable(text[: 2 * LONGEST_NAME])
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 40]}… ({len(text)} characters)"


def _text(text: str, longest: int) -> str:
    """Return the text, printable, or its beginning; a long one is cut before it is made printable, to save time."""
    return _cut(printable(text if len(text) <= 2 * longest else _cut(text, longest)), longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    kept = max(0, longest - 40)
    return f"{text[:kept]}… ({len(text) - kept} characters left out)"


def _end(text: str) -> str:
    if len(text) <= LONGEST_DETAIL:
        return text
    kept = text[-(LONGEST_DETAIL - 40) :]
    return f"({len(text) - len(kept)} characters left out) …{kept}"
