"""Reads JSON values into typed dataclasses; whatever does not fit is a FormatError that names the field.

The annotations of a dataclass are its schema. A reader is built from them once; it takes values as they are and never
converts one type into another: a bool is no number, and a number no text. Standard library only; no record is
known here.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

Reader = Callable[[Any], Any]
DEEPEST = 32
"""Levels of nested values where any JSON is allowed."""
_MOST_BITS = 13_000
"""Python refuses to write integers of more than 4,300 digits."""
_LONGEST_SHOWN = 80


class FormatError(ValueError):
    """A record that this version cannot read."""


@dataclass(frozen=True)
class Within:
    """Annotates a finite number within these bounds, inclusive."""

    low: float
    high: float


@dataclass(frozen=True)
class AnyNumber:
    """Annotates a number that may also be nan or infinite."""


@dataclass(frozen=True)
class Matching:
    """Annotates text that matches the pattern as a whole."""

    pattern: str
    words: str


@dataclass(frozen=True)
class NotEmpty:
    """Annotates a sequence with at least one element."""


@dataclass(frozen=True)
class Also:
    """Annotates a value that has to pass another check: `problem` returns what was expected, or None."""

    problem: Callable[[Any], str | None]


class _MismatchError(Exception):
    """A value that does not fit: what was expected, and the path to it, built from the inside out."""

    def __init__(self, expected: str, value: Any) -> None:
        super().__init__(expected)
        self.expected, self.received, self.path = expected, shown(value), ""

    def within(self, key: object) -> _MismatchError:
        step = f"[{key}]" if isinstance(key, int) else f".{_short(str(key), 40)}"
        self.path = step + self.path
        return self


def read(annotation: Any, value: Any, name: str = "") -> Any:
    """Return the value in the form of `annotation`: lists become tuples, and objects the dataclasses it names.

    Raises FormatError, which calls the value `name`.
    """
    try:
        return _reader(annotation)(value)
    except _MismatchError as error:
        path = f"{name}{error.path}".lstrip(".")
        raise FormatError(
            f"{path + ': ' if path else ''}expected {error.expected}. Received: {error.received}"
        ) from None


def shown(value: Any) -> str:
    """A value as an error shows it: escaped, and short whatever it is."""
    if isinstance(value, str):
        return _short(repr(value[: 2 * _LONGEST_SHOWN]), _LONGEST_SHOWN)
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return f"{type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


@cache
def _reader(annotation: Any) -> Reader:
    """The reader for values of this annotation, which raises _MismatchError."""
    rules: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *annotated = get_args(annotation)
        rules = tuple(annotated)
    if rules and isinstance(rules[-1], Also):
        return _also(_reader(Annotated[(annotation, *rules[:-1])] if rules[:-1] else annotation), rules[-1])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return _any
    if annotation is str:
        return _text(rules[0] if rules else None)
    if annotation is bool:
        return _boolean
    if annotation in (int, float):
        return _number(annotation, rules[0] if rules else None)
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return _sequence(arguments[0], least=1 if NotEmpty() in rules else 0)
    if origin is tuple:
        return _fixed(tuple(map(_reader, arguments)))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_reader(arguments[0]), _reader(arguments[1]))
    if is_dataclass(annotation):
        return _record(annotation)
    raise TypeError(f"expected an annotation that a record may have. Received: {annotation!r}")


def _any(value: Any) -> Any:
    _plain(value, DEEPEST)
    return value


def _plain(value: Any, levels: int) -> None:
    """Raise _MismatchError unless JSON can hold the value."""
    kind = type(value)
    if kind in (str, bool, float, types.NoneType):
        return
    if kind is int:
        if value.bit_length() > _MOST_BITS:
            raise _MismatchError("an integer that can be written", value)
    elif kind is dict or kind is list:
        if not levels:
            raise _MismatchError(f"at most {DEEPEST} nested levels", value)
        for key, each in value.items() if kind is dict else enumerate(value):
            try:
                if kind is dict and type(key) is not str:
                    raise _MismatchError("text as a key", key)
                _plain(each, levels - 1)
            except _MismatchError as error:
                raise error.within(key) from None
    else:
        raise _MismatchError("a value that JSON has", value)


def _boolean(value: Any) -> Any:
    if type(value) is not bool:
        raise _MismatchError("true or false", value)
    return value


def _text(rule: Matching | None) -> Reader:
    pattern = re.compile(rule.pattern) if rule else None

    def reader(value: Any) -> Any:
        if type(value) is not str:
            raise _MismatchError("text", value)
        if rule and pattern and not pattern.fullmatch(value):
            raise _MismatchError(rule.words, value)
        return value

    return reader


def _number(kind: type, rule: Within | AnyNumber | None) -> Reader:
    """Whole numbers stay integers where any number is allowed, since JSON may write 3.0 as 3."""
    what = "a whole number" if kind is int else "a number"
    allowed = (int,) if kind is int else (int, float)
    low, high = _bounds(kind, rule)
    words = f"{what} from {low:g} to {high:g}" if isinstance(rule, Within) else f"a finite {what[2:]}"

    def reader(value: Any) -> Any:
        if type(value) not in allowed:
            raise _MismatchError(what, value)
        if low <= value <= high or (isinstance(rule, AnyNumber) and not math.isfinite(_as_float(value))):
            return value
        raise _MismatchError(words, value)

    return reader


def _bounds(kind: type, rule: Within | AnyNumber | None) -> tuple[float, float]:
    if isinstance(rule, Within):
        return rule.low, rule.high
    return (-(2**63), 2**63 - 1) if kind is int else (-1.7976931348623157e308, 1.7976931348623157e308)


def _as_float(value: float) -> float:
    return value if isinstance(value, float) else 0.0


def _literal(options: tuple[Any, ...]) -> Reader:
    def reader(value: Any) -> Any:
        if type(value) is not str or value not in options:
            raise _MismatchError(f"one of {', '.join(map(str, options))}", value)
        return value

    return reader


def _union(options: tuple[Any, ...]) -> Reader:
    """`X | None`, or dataclasses that differ in their `name`."""
    if types.NoneType in options:
        (option,) = (option for option in options if option is not types.NoneType)
        reader_of_other = _reader(option)
        return lambda value: None if value is None else reader_of_other(value)
    readers = {option.__dataclass_fields__["name"].default: _reader(option) for option in options}

    def reader(value: Any) -> Any:
        name = value.get("name") if type(value) is dict else None
        if type(name) is not str or name not in readers:
            raise _MismatchError(
                f"an object whose name is one of {', '.join(readers)}", value if name is None else name
            )
        return readers[name](value)

    return reader


def _sequence(annotation: Any, least: int) -> Reader:
    item = _reader(annotation)
    rule = next(iter(get_args(annotation)[1:]), None)
    quick = get_args(annotation)[:1] == (float,) and isinstance(rule, Within)
    low, high = (rule.low, rule.high) if isinstance(rule, Within) else (0.0, 0.0)

    def reader(value: Any) -> Any:
        if type(value) not in (list, tuple):
            raise _MismatchError("a list", value)
        if len(value) < least:
            raise _MismatchError("a list that is not empty", value)
        # Samples come in thousands; their sum shows whether one is nan.
        if quick and value and set(map(type, value)) <= {float} and low <= min(value) and max(value) <= high:
            total = sum(value)
            if total == total:
                return tuple(value)
        values: list[Any] = []
        try:
            values.extend(map(item, value))  # up to the one that does not fit
        except _MismatchError as error:
            raise error.within(len(values)) from None
        return tuple(values)

    return reader


def _fixed(items: tuple[Reader, ...]) -> Reader:
    def reader(value: Any) -> Any:
        if type(value) not in (list, tuple) or len(value) != len(items):
            raise _MismatchError(f"a list of {len(items)}", value)
        values: list[Any] = []
        try:
            values.extend(item(each) for item, each in zip(items, value, strict=True))
        except _MismatchError as error:
            raise error.within(len(values)) from None
        return tuple(values)

    return reader


def _mapping(key_reader: Reader, value_reader: Reader) -> Reader:
    def reader(value: Any) -> Any:
        if type(value) is not dict:
            raise _MismatchError("an object", value)
        key: Any = ""
        values = {}
        try:
            for key, each in value.items():
                values[key_reader(key)] = value_reader(each)
        except _MismatchError as error:
            raise error.within(key if type(key) is str else "a key") from None
        return values

    return reader


def _record(kind: Any) -> Reader:
    """A dataclass; keys in its `WRITTEN_BESIDE` are allowed and ignored, fields in `CAME_LATER` may be missing.

    Without a `CAME_LATER`, whatever has a default may be missing.
    """
    hints = get_type_hints(kind, include_extras=True)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    later = getattr(kind, "CAME_LATER", None)
    required = {
        field.name
        for field in fields(kind)
        if (field.name not in later if later is not None else field.default is field.default_factory is MISSING)
    }
    beside: frozenset[str] = getattr(kind, "WRITTEN_BESIDE", frozenset())

    def reader(value: Any) -> Any:
        if type(value) is not dict:
            raise _MismatchError("an object", value)
        if missing := required.difference(value):
            raise _MismatchError(f"the key{'s' * (len(missing) > 1)} {', '.join(sorted(missing))}", value)
        key: Any = ""
        values = {}
        try:
            for key, each in value.items():
                if key in readers:
                    values[key] = readers[key](each)
                elif key not in beside:
                    near = difflib.get_close_matches(str(key)[:100], readers, n=1)
                    raise _MismatchError(f"a field of a {kind.__name__}{f', such as {near[0]}' if near else ''}", key)
        except _MismatchError as error:
            raise error.within(key if type(key) is str else "a key") from None
        return kind(**values)

    return reader


def _also(reader_before: Reader, rule: Also) -> Reader:
    def reader(value: Any) -> Any:
        read_value = reader_before(value)
        if (expected := rule.problem(read_value)) is not None:
            raise _MismatchError(expected, value)
        return read_value

    return reader
