"""Every problem of a command line, where Hydra stops at the first: each override is composed and checked on its own."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import AnyNode, DictConfig, OmegaConf

from nets.errors import did_you_mean
from sweeps.clusters import kinds
from sweeps.errors import UsageError
from sweeps.machine.node import Node
from sweeps.plan import checks
from sweeps.request import schema
from sweeps.request.compose import ComposeError, Composer, drop_defaults_of_nets
from sweeps.wording import nearest

_REQUIRED = ("task.images", "task.data", "model.name", "model._target_", "model.path", "passes")
"""Keys without which others make no sense; they accompany whatever is tried."""
_KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
"""How messages describe the types that OmegaConf names."""


def diagnose(overrides: Sequence[str], conf: Path, nodes: Sequence[Node]) -> list[str]:
    """Return the problems of one command line's overrides, grids included; empty if each override is fine on its own.

    `conf` is the folder of the configuration; `nodes` are those that trials would run on.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base=None):
        problems = _Diagnosis(GlobalHydra.instance().config_loader(), nodes).problems(overrides)
    return list(dict.fromkeys(line for problem in problems for line in problem.splitlines()))


class _Diagnosis:
    """The diagnosis of one command line."""

    def __init__(self, loader: ConfigLoader, nodes: Sequence[Node]) -> None:
        self._loader, self._nodes = loader, nodes
        self._composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
        self._choices: dict[str, list[str]] = defaultdict(list)
        """The valid overrides that choose from a config group, by group."""
        self._required: dict[str, str] = {}
        """Overrides that must accompany the one being tried, by key."""

    def problems(self, overrides: Sequence[str]) -> list[str]:
        parsed, problems = [], []
        for text in overrides:
            try:
                parsed.append(OverridesParser.create(config_loader=self._loader).parse_override(text))
            except ComposeError as error:
                problems.append(f"{text}: expected KEY=VALUE as Hydra reads it. Received: {_first_line(error)}")
        groups = [override for override in parsed if self._loader.get_group_options(override.key_or_group)]
        values = [override for override in parsed if override not in groups]
        for override in groups:
            problems += self._choose(override)
        # A cluster's values can only be checked all together.
        needed = [o for o in values if o.key_or_group in _REQUIRED or o.key_or_group.startswith("cluster.")]
        self._required = {o.key_or_group: _first_set(o) for o in needed if self._is_valid(o)}
        for override in [*groups, *values]:
            # Whether a choice is possible depends on the others, as a task does on its net.
            texts = self._choices[override.key_or_group] if override in groups else _points(override)
            problems += [
                problem
                for text in texts
                for base in self._bases(override)
                for problem in self._at(base, text, override)
            ]
        return problems

    def _choose(self, override: Override) -> Iterator[str]:
        """Add the valid choices to `_choices`, and yield a sentence for each of the others."""
        for text in _points(override):
            try:
                self._composed([text])
            except ComposeError as error:
                yield self._sentence(text, override, error, [])
            else:
                self._choices[override.key_or_group].append(text)

    def _is_valid(self, override: Override) -> bool:
        """Return whether its key exists and takes a value of that type, under any choice."""
        for base in self._bases(override):
            with contextlib.suppress(*ComposeError):
                self._composed([*base, _first_set(override)])
                return True
        return False

    def _bases(self, override: Override) -> list[list[str]]:
        """Return the group choices under which to try an override: each of its own group, the first of every other."""
        group = override.key_or_group.split(".")[0]
        first = [texts[0] for other, texts in self._choices.items() if other != group and texts]
        if group == override.key_or_group or not self._choices.get(group):
            return [first]
        return [[*first, text] for text in self._choices[group]]

    def _at(self, base: Sequence[str], text: str, override: Override) -> list[str]:
        """Return the problems of one override under these group choices."""
        try:
            cfg = self._composed([*base, text])
        except ComposeError as error:
            return [self._sentence(text, override, error, base)]
        try:
            cfg = self._composed([*base, text, *self._required_with(cfg, override)])
        except ComposeError:
            return []  # an override that accompanies this one is wrong itself, and reported in its turn
        try:
            trial, problems = schema.read(cfg)
        except UsageError as error:
            return error.problems
        except ComposeError as error:
            return [f"{text}: {_first_line(error)}"]
        if kinds.of_config(cfg).is_here:  # nothing is known here of other clusters' nodes
            problems += checks.problems([trial], self._nodes)
        return problems

    def _required_with(self, cfg: DictConfig, override: Override) -> list[str]:
        """Return the required overrides that this config takes, the override itself apart."""
        return [text for key, text in self._required.items() if key != override.key_or_group and _takes(cfg, key)]

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        """Return the config of these overrides; only those with Hydra's own keys take the slow way through Hydra."""
        if not any(re.match(r"[+~]*hydra[./]", text) for text in overrides):
            return self._composer.compose(overrides)
        config = compose("config", list(overrides))
        drop_defaults_of_nets(config, overrides)
        return config

    def _sentence(self, text: str, override: Override, error: Exception, base: Sequence[str]) -> str:
        """Return the sentence for an override that Hydra refuses under these group choices."""
        key, value = override.key_or_group, text.partition("=")[2]
        if options := self._loader.get_group_options(key):
            return f"{text}: there is no {key} of that name.{nearest(value, options)}"
        if key.startswith("hydra."):
            cfg = compose("config", list(base), return_hydra_config=True)
        else:
            cfg = self._composed(base)
            with contextlib.suppress(*ComposeError):  # it is reported in its turn
                cfg = self._composed([*base, *self._required_with(cfg, override)])
        adds = override.is_add() or override.is_force_add()
        if not adds and (unknown := _no_such_key(text, key, cfg)):
            return f"{unknown}{self._choices_with(key)}"
        return _bad_value(text, key, value, cfg, error)

    def _choices_with(self, key: str) -> str:
        """Return the only choice of the key's group that has the key, in words; empty where there is not just one."""
        group = key.partition(".")[0]
        if group == "hydra":
            return ""
        choices = [f"{group}={name}" for name in self._loader.get_group_options(group)]
        having = [choice for choice in choices if _takes(self._composed([choice]), key)]
        return f" {having[0]} has it." if len(having) == 1 else ""


def _points(override: Override) -> Iterator[str]:
    """Yield the override at each value that it sweeps over."""
    if override.is_sweep_override() and override.is_discrete_sweep():
        for value in override.sweep_string_iterator():
            yield f"{override.get_key_element()}={value}"
    else:
        yield override.input_line or ""


def _first_set(override: Override) -> str:
    """Return the override at its first value that is not null, under which others of its group may be valid."""
    points = list(_points(override))
    return next((text for text in points if not text.endswith("=null")), points[0])


def _takes(cfg: DictConfig, key: str) -> bool:
    group, _, leaf = key.partition(".")
    return leaf in cfg[group] if leaf else group in cfg


def _no_such_key(text: str, key: str, cfg: DictConfig) -> str | None:
    """Return the sentence for a key that does not exist; None: it exists."""
    value = text.partition("=")[2]
    parts = key.split(".")
    node: Any = cfg
    takes_anything = False
    depth = 0
    while isinstance(node, DictConfig) and depth < len(parts) and parts[depth] in node:
        takes_anything = isinstance(node._get_node(parts[depth]), AnyNode)
        node, depth = node[parts[depth]], depth + 1
    if depth == len(parts):
        return None
    parent, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
    if not isinstance(node, DictConfig):
        hint = f" Write +{text} to add it." if node is None and takes_anything else ""
        return f"{text}: {parent} has no keys of its own.{hint}"
    where = f"{parent} has no key {rest!r}" if parent else f"there is no key {parts[0]!r}"
    of_input = parent == "inputs" and "." in rest
    near = "" if of_input else nearest(parts[depth], [str(name) for name in node if parent or name != "hydra"])
    if not _open(parent, node):
        return f"{text}: {where}.{near}"
    # A dot in a name would be read as another level; inputs have one.
    added = f"+{parent}={{{rest}: {value}}}" if "." in rest and not of_input else f"+{key}={value}"
    return f"{text}: {where}.{near} Write {added} to add it."


def _open(parent: str, node: DictConfig) -> bool:
    """Return whether keys may be added to this node: a callable of the user's own takes whatever arguments it has."""
    if parent == "model":
        return node.get("_target_") is not None
    return parent != "" and OmegaConf.get_type(node) is dict


def _bad_value(text: str, key: str, value: str, cfg: DictConfig, error: Exception) -> str:
    """Return the sentence for a value that its key does not take."""
    cause = _first_line(error.__cause__ or error)
    if isinstance(node := OmegaConf.select(cfg, key), DictConfig):
        if match := re.search(r"Key '(.*)' is not in struct", cause):
            near = did_you_mean(match[1], map(str, node))
            added = f" Write +{text} to add it." if _open(key, node) else ""
            return f"{text}: {key} has no key {match[1]!r}.{near}{added}"
        if not value.startswith("{"):
            return f"{text}: expected names and values, such as +{key}={{NAME: VALUE}}. Received: {value!r}."
    if match := re.search(r"could not be converted to (\w+)|is not a valid (bool)", cause):
        kind = match[1] or match[2]
        return f"{text}: expected {_KINDS.get(kind, kind)}. Received: {value!r}."
    if match := re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", cause):
        near = did_you_mean(match[1], match[2].split(", "))
        return f"{text}: expected one of {match[2]}. Received: {match[1]!r}.{near}"
    if "Cannot merge DictConfig with ListConfig" in cause:
        return f"{text}: expected a list, such as {key}=[VALUE,VALUE]. Received: {value!r}."
    if "is not a ListConfig" in cause or "not a sequence" in cause:
        return f"{text}: expected a list, such as {key}=[{value}]. Received: {value!r}."
    return f"{text}: {cause}"


def _first_line(error: BaseException) -> str:
    return next(filter(None, str(error).splitlines()), type(error).__name__)
