"""Readable names: just what tells a trial, or a curve over batch size, from its neighbours."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tracking import axes
from tracking.record import Result, Trial
from tracking.text.printable import printable

_LONGEST_KEY = 200


def trial_names(trials: Iterable[Trial]) -> dict[str, str]:
    """A name for each trial id, e.g. `vgg16 b=4 cpu`: model, batch and whatever else varies among the trials.

    The names of one call differ from each other; among other trials, the same trial may have another name.
    """
    unique = {trial.trial_id: _words(trial) for trial in trials}
    shown = {"model", "batch"} | _varying(unique.values())
    names = {trial_id: printable(_join(words, shown)) for trial_id, words in unique.items()}
    count = Counter(names.values())
    return {trial_id: name if count[name] == 1 else f"{name} {trial_id[:6]}" for trial_id, name in names.items()}


def series_names(trials: Sequence[Trial]) -> dict[str, str]:
    """The curve over batch size that each trial id is a point of: `<model>/<device>` and what else sets curves apart.

    Repeats of a trial are the same point. Precision, arguments and the like appear only where one model on one device
    has several of them, e.g. `vgg16/cpu bfloat16`. Every name is valid within an MLflow metric key.
    """
    groups: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
    for trial in trials:
        groups[trial.model, trial.device.label][trial.trial_id] = _words(trial)
    names: dict[str, str] = {}
    curve_of: dict[str, tuple[str, str, str]] = {}
    along = {axis.name for axis in axes.of_role("position", "repetition")}
    for (model, device), members in groups.items():
        shown = _varying(members.values()) - {"model", "device"} - along
        for trial_id, words in members.items():
            extra = _join(words, shown)
            first = name = f"{metric_word(model)}/{metric_word(f'{device} {extra}'.strip())}"
            # The characters that MLflow refuses may be all that tells two curves apart.
            for count in itertools.count(2):
                if curve_of.setdefault(name, (model, device, extra)) == (model, device, extra):
                    break
                name = f"{first} {count}"
            names[trial_id] = name
    return names


def sweep_name(trials: Sequence[Trial]) -> str:
    """The range of a sweep, e.g. `vgg16, alexnet b=1,2,4 cpu`; long lists are counted instead."""
    models = list(dict.fromkeys(trial.model for trial in trials))
    batches = sorted({trial.batch for trial in trials})
    devices = list(dict.fromkeys(trial.device.label for trial in trials))
    spread = ",".join(map(str, batches)) if len(batches) <= 8 else f"{batches[0]}..{batches[-1]}"
    tasks = dict.fromkeys(trial.task for trial in trials if trial.task != "benchmark")
    words = " ".join(
        [
            *tasks,
            ", ".join(models) if len(models) <= 4 else f"{len(models)} models",
            f"b={spread}",
            ", ".join(devices) if len(devices) <= 3 else f"{len(devices)} devices",
        ]
    )
    return printable(words)


def host_name(result: Result) -> str:
    """The machine of a result: its name, and in a cluster its address."""
    name = str(result.host.get("hostname", ""))
    address = result.host.get("node_ip")
    return printable(f"{name} ({address})" if address else name)


def metric_word(text: str) -> str:
    """The text without the characters that MLflow refuses within one part of a metric, parameter or tag key."""
    return re.sub(r" +", " ", re.sub(r"[^\w.\- ]", " ", text.replace("/", "-"))).strip()[:_LONGEST_KEY]


def _words(trial: Trial) -> dict[str, str]:
    """Everything that sets trials apart, in the order in which a name shows it; empty where there is nothing to say."""
    return {part: text for axis in axes.AXES for part, text in axis.words_of(trial).items()}


def _varying(members: Iterable[Mapping[str, str]]) -> set[str]:
    """The parts of names that tell members apart; what belongs to a model counts only within that model.

    Settings (`optimizer.momentum`) count only among members that have the same of what they belong to (`optimizer`).
    """
    members = list(members)
    of_model = {axis.name for axis in axes.AXES if axis.of_model}
    parts = {part: part.partition(".")[0] for words in members for part in words}
    seen: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for words in members:
        for part, head in parts.items():
            model = words["model"] if head in of_model else ""
            seen[part, model, "" if head == part else words.get(head, "")].add(words.get(part, ""))
    return {part for (part, *_), texts in seen.items() if len(texts) > 1}


def _join(words: Mapping[str, str], shown: set[str]) -> str:
    return " ".join(text for part, text in words.items() if part in shown and text)
