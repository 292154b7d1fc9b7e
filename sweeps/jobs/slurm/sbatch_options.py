"""`cluster.sbatch`: options of sbatch without a key of their own, in any form that people type.

Valid forms are one text as on sbatch's command line, a list of such texts, or a mapping of names to values, to which
`+cluster.sbatch.qos=high` adds. Each option becomes an `#SBATCH` line of the script.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tracking.text.printable import printable

EXAMPLE = '+cluster.sbatch.qos=high, or cluster.sbatch="--qos high --constraint a100"'
_SHORT = {
    "a": "array",
    "A": "account",
    "c": "cpus-per-task",
    "d": "dependency",
    "e": "error",
    "J": "job-name",
    "k": "no-kill",
    "n": "ntasks",
    "N": "nodes",
    "o": "output",
    "p": "partition",
    "t": "time",
    "W": "wait",
}
_KEYS = {
    "account": "account",
    "cpus-per-task": "cpus",
    "mem": "memory",
    "nodes": "nodes",
    "partition": "partition",
    "signal": "stop_s",
    "time": "time",
}
"""Options that have their own key of `cluster`."""
_OURS = {
    "array": "one job runs the whole sweep",
    "error": "the output is in the sweep's folder",
    "job-name": "jobs of one sweep wait for each other by that name",
    "no-kill": "it is already set",
    "ntasks": "each node runs one task, its Ray",
    "ntasks-per-node": "each node runs one task, its Ray",
    "open-mode": "the output is in the sweep's folder",
    "output": "the output is in the sweep's folder",
    "test-only": "dry_run=true shows the job",
    "wait": "the command returns once the job is submitted",
    "wrap": "the script is the sweep's",
}
"""Options that the script relies on, and why."""
_MERGED = ("dependency", "gres")
"""Options whose values are merged with ours: if set twice, the later one would replace the earlier one."""
_PLAIN = re.compile(r"[\w@%+=:,./\[\]*&|!?~^-]+")


def problems(value: Any) -> list[str]:
    """Return the problems with this value of `cluster.sbatch`."""
    try:
        options = _options(value)
    except ValueError as error:
        return [f"cluster.sbatch: {error}"]
    problems = []
    for words in options:
        line = " ".join(words)
        name = _name(words[0])
        if not words[0].startswith("-") or name == "":
            problems.append(f"cluster.sbatch: expected options of sbatch, such as {EXAMPLE}. Received: {line!r}.")
        elif any(printable(word) != word or set(word) & set('"\\') for word in words):
            expected = "one line without quotation marks and backslashes"
            problems.append(f"cluster.sbatch: expected {expected}. Received: {line!r}.")
        elif (key := _KEYS.get(name)) is not None:
            problems.append(f"cluster.sbatch: expected cluster.{key} for --{name}. Received: {line!r}.")
        elif (why := _OURS.get(name)) is not None:
            problems.append(f"cluster.sbatch: expected no --{name}: {why}. Received: {line!r}.")
        elif name == "dependency" and "?" in "".join(words):
            expected = "dependencies joined by commas, because the job also waits for earlier jobs of the sweep"
            problems.append(f"cluster.sbatch: expected {expected}. Received: {line!r}.")
    return problems


def lines(value: Any, ours: Mapping[str, str]) -> list[str]:
    """Return the options as lines of a batch script, merged with `ours`, to which a user may add."""
    merged = {name: [text] for name, text in ours.items()}
    others = []
    for words in _options(value):
        if (name := _name(words[0])) in _MERGED:
            merged.setdefault(name, []).insert(0, _value(words))
        else:
            others.append(" ".join(map(quoted, words)))
    return [*(quoted(f"--{name}={','.join(texts)}") for name, texts in merged.items()), *others]


def names(value: Any) -> set[str]:
    """Return the long names of the options that are set."""
    return {_name(words[0]) for words in _options(value)}


def value_of(value: Any, name: str) -> str | None:
    """Return the last value that an option is set to; None: it is not set."""
    return next((_value(words) for words in reversed(_options(value)) if _name(words[0]) == name), None)


def _options(value: Any) -> list[list[str]]:
    """Return each option as its words: `--qos=high`, or `-C` and `a100`. Raises ValueError for any other value."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        pairs = [(str(name).strip("-").replace("_", "-"), each) for name, each in value.items()]
        # `false` removes what a site's file sets.
        return [_pair(name, each) for name, each in pairs if each is not False]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected options of sbatch, such as {EXAMPLE}. Received: {value!r}.")
    options: list[list[str]] = []
    for text in texts:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ValueError(f"expected options of sbatch, such as {EXAMPLE}. Received: {text!r} ({error}).") from error
        for word in words:
            takes_value = (
                options and len(options[-1]) == 1 and options[-1][0].startswith("-") and "=" not in options[-1][0]
            )
            if takes_value and not word.startswith("-"):
                options[-1].append(word)
            else:
                options.append([word])
    return options


def _pair(name: str, value: Any) -> list[str]:
    """Return an entry of a mapping as the words of an option."""
    dashes = "-" if len(name) == 1 else "--"
    if value is True or value is None:
        return [dashes + name]
    return [dashes + name, str(value)] if len(name) == 1 else [f"--{name}={value}"]


def _value(words: Sequence[str]) -> str:
    """Return the value of an option; empty: it is a flag."""
    if len(words) > 1:
        return words[1]
    return words[0].partition("=")[2] if words[0].startswith("--") else words[0][2:]


def _name(word: str) -> str:
    """Return the long name of an option, which sbatch also accepts shortened."""
    if not word.startswith("--"):
        return _SHORT.get(word[1:2], word[1:2])
    name = word[2:].partition("=")[0]
    full_names = [*_KEYS, *_OURS, *_MERGED]
    longer = [each for each in full_names if each.startswith(name)]
    return longer[0] if len(longer) == 1 and name not in full_names and len(name) > 2 else name


def quoted(word: str) -> str:
    """Return a word quoted for an `#SBATCH` line where necessary."""
    return word if _PLAIN.fullmatch(word) else f'"{word}"'
