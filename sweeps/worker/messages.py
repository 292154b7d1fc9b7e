"""What a trial's process may say, and how much: every message is held to its kind's schema where it enters.

From here on a trial's words and figures are well typed, short, and printable wherever they are shown; what does not fit
is a MessageError, the failure of this trial and of no other.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from sweeps.worker.forkserver import Send
from sweeps.worker.wire import MessageError, plain
from tracking.record import Failure, Layer, Pass, Status
from tracking.schema.fields import Figure, Seconds, host_problem
from tracking.schema.measurement import Measurement
from tracking.schema.reading import Also, FormatError, Within, read, shown
from tracking.text.printable import printable, printable_lines

LONGEST_NAME = 250
"""Characters of a name, as MLflow has them for the name of a metric."""
LONGEST_TEXT = 5_000
"""Characters of a fact about the host, as MLflow has them for a tag."""
LONGEST_SENTENCE = 2_000
LONGEST_DETAIL = 20_000
MOST_FIGURES = 1_000
MOST_POINTS = 1_000_000
MOST_LAYERS = 50_000
MOST_FACTS = 10_000
MOST_PHASES = 100
MOST_DOUBTS = 100
_OF_THE_DRIVER = ("node_id", "node_ip", "lost_before")
"""Facts about a trial's host that are not its own to tell."""

_SCHEMAS: Mapping[str, Any] = {
    "host": Annotated[Mapping[str, Any], Also(host_problem)],
    "layers": tuple[Layer, ...],
    "phase": tuple[str, Seconds],
    "pass": tuple[Pass, Measurement],
    "metrics": Mapping[str, Figure],
    "curves": Mapping[str, tuple[tuple[int, Figure], ...]],
    "limits": Mapping[str, float],
    "quality": tuple[str, ...],
    "failed": tuple[Literal["error", "oom", "crashed"], Failure],
    "done": Any,
}
_OF_THE_SERVER: Mapping[str, Any] = {
    "pid": Annotated[int, Within(1, 2**31)],
    "exit": Annotated[int, Within(0, 2**16)],
}
"""What the process says before the trial's code runs, and the fork server after it."""


def speaker(send: Send) -> Send:
    """`send` as a task has it: values travel as plain ones.

    An unknown kind of message raises MessageError, with the nearest that there is, and so does what is not plain.
    """

    def say(kind: str, value: Any) -> None:
        _expect_known(kind)
        try:
            content = plain(value)
        except MessageError as error:
            raise MessageError(f"{kind}: {error}") from error
        send(kind, content)

    return say


def failure(kind: str, message: str, detail: str = "") -> Failure:
    """A failure in words that are printable and not too long; of a long detail its end, which says most."""
    return Failure(
        kind=_name(kind, "a failure's kind", cut=True),
        message=cut(printable(_head(message, LONGEST_SENTENCE)), LONGEST_SENTENCE),
        detail=printable_lines(_tail(detail)),
    )


def cut(text: str, longest: int) -> str:
    """The text, or as much of its beginning as fits beside how much is left out."""
    if len(text) <= longest:
        return text
    kept = max(0, longest - 40)
    return f"{text[:kept]}… ({len(text) - kept} characters left out)"


class Heard:
    """What a trial's process has said so far."""

    def __init__(self, passes: tuple[Pass, ...]) -> None:
        self.pid = 0
        self.exit_status: int | None = None
        self.done = False
        self.failed: tuple[Status, Failure] | None = None
        self.measured: dict[Pass, Measurement] = {}
        self.phases: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        """Of the fields of a result: host, layers, metrics, curves, limits and quality."""
        self._passes = passes

    def take(self, kind: str, value: Any) -> None:
        """Take note of a message. Raises MessageError where it is none that the trial may send."""
        if kind in _OF_THE_SERVER:
            self._take_from_server(kind, _read(_OF_THE_SERVER[kind], value, kind))
            return
        _expect_known(kind)
        fitting = _FITTING[kind](_read(_SCHEMAS[kind], _numbers(value) if kind in _FIGURES else value, kind))
        if kind == "pass":
            name, measurement = fitting
            if name not in self._passes:
                words = " or ".join(self._passes) or "no pass"
                raise MessageError(f"pass: expected {words}, as the trial asks. Received: {name!r}")
            self.measured[name] = measurement
        elif kind == "phase":
            self.phases[fitting[0]] = fitting[1]
            _expect_at_most(MOST_PHASES, self.phases, "phase", "phases")
        elif kind == "failed":
            self.failed = self.failed or fitting
        elif kind == "done":
            self.done = True
        else:
            self.facts[kind] = fitting

    def _take_from_server(self, kind: str, value: int) -> None:
        if kind == "exit":
            self.exit_status = value
        elif self.pid:
            raise MessageError("pid: expected it once")
        else:
            self.pid = value


def _expect_known(kind: Any) -> None:
    if kind in _SCHEMAS:
        return
    near = difflib.get_close_matches(str(kind)[:100], _SCHEMAS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise MessageError(f"expected a message among {', '.join(sorted(_SCHEMAS))}. Received: {shown(kind)}.{hint}")


def _read(schema: Any, value: Any, kind: str) -> Any:
    try:
        return read(schema, value, kind)
    except FormatError as error:
        raise MessageError(str(error)) from error


def _expect_at_most(most: int, values: Any, kind: str, what: str) -> None:
    if len(values) > most:
        raise MessageError(f"{kind}: expected at most {most} {what}. Received: {len(values)}")


def _name(text: str, what: str, *, cut: bool = False) -> str:
    """A name, printable. Too long a one is cut only where nothing is told apart by it."""
    name = printable(text[: 2 * LONGEST_NAME])
    if len(text) <= LONGEST_NAME and len(name) <= LONGEST_NAME and name.strip():
        return name
    if cut:
        return _cut_name(name, len(text))
    raise MessageError(
        f"{what}: expected a name of 1 to {LONGEST_NAME} characters. Received: {shown(text)} ({len(text)} characters)"
    )


def _cut_name(name: str, length: int) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 40]}… ({length} characters)"


def _head(text: str, most: int) -> str:
    """So much of a long text that printing it costs nothing, with a sign of what is left out."""
    return text if len(text) <= 2 * most else cut(text, most)


def _tail(text: str) -> str:
    if len(text) <= LONGEST_DETAIL:
        return text
    kept = text[-(LONGEST_DETAIL - 40) :]
    return f"({len(text) - len(kept)} characters left out) …{kept}"


def _numbers(value: Any) -> Any:
    """Figures with 1 and 0 for true and false: a task's own yes or no is a figure, too."""
    if isinstance(value, dict):
        return {key: int(each) if isinstance(each, bool) else each for key, each in value.items()}
    return value


def _host(facts: Mapping[str, Any]) -> dict[str, Any]:
    if taken := [key for key in _OF_THE_DRIVER if key in facts]:
        raise MessageError(f"host: expected facts of the trial's own. Received: {', '.join(taken)}")
    left = MOST_FACTS

    def clean(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise MessageError(f"host: expected at most {MOST_FACTS} facts. Received: more")
        if isinstance(value, str):
            return cut(printable(_head(value, LONGEST_TEXT)), LONGEST_TEXT)
        if isinstance(value, list):
            return [clean(each) for each in value]
        if isinstance(value, dict):
            return {_name(key, "host"): clean(each) for key, each in value.items()}
        return value

    return {_name(key, "host"): clean(value) for key, value in facts.items()}


def _layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    _expect_at_most(MOST_LAYERS, layers, "layers", "layers")
    return tuple(
        replace(layer, name=_name(layer.name or "-", "layers", cut=True), kind=_name(layer.kind or "-", "", cut=True))
        for layer in layers
    )


def _measured(message: tuple[Pass, Measurement]) -> tuple[Pass, Measurement]:
    name, measurement = message
    _expect_at_most(MOST_FIGURES, measurement.evidence, "pass", "pieces of evidence")
    evidence = {_name(key, "pass"): value for key, value in measurement.evidence.items()}
    return name, replace(measurement, stopped=_name(measurement.stopped or "-", "pass", cut=True), evidence=evidence)


def _figures(kind: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def fit(figures: Mapping[str, Any]) -> dict[str, Any]:
        _expect_at_most(MOST_FIGURES, figures, kind, "of them")
        return {_name(key, kind): value for key, value in figures.items()}

    return fit


def _curves(curves: Mapping[str, tuple[tuple[int, float], ...]]) -> dict[str, Any]:
    points = sum(map(len, curves.values()))
    if points > MOST_POINTS:
        raise MessageError(f"curves: expected at most {MOST_POINTS} points. Received: {points}")
    return _figures("curves")(curves)


def _doubts(doubts: tuple[str, ...]) -> tuple[str, ...]:
    _expect_at_most(MOST_DOUBTS, doubts, "quality", "reasons")
    return tuple(cut(printable(_head(doubt, LONGEST_SENTENCE)), LONGEST_SENTENCE) for doubt in doubts if doubt.strip())


_FIGURES = ("metrics",)
_FITTING: Mapping[str, Callable[[Any], Any]] = {
    "host": _host,
    "layers": _layers,
    "phase": lambda phase: (_name(phase[0], "phase"), phase[1]),
    "pass": _measured,
    "metrics": _figures("metrics"),
    "curves": _curves,
    "limits": _figures("limits"),
    "quality": _doubts,
    "failed": lambda failed: (failed[0], failure(failed[1].kind, failed[1].message, failed[1].detail)),
    "done": lambda _: None,
}
