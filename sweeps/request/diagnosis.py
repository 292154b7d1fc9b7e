"""Every problem of a command line, where Hydra stops at the first: each override is composed by itself and asked."""

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
from sweeps.errors import UsageError
from sweeps.machine.node import Node
from sweeps.plan import checks
from sweeps.request import schema
from sweeps.request.compose import ComposeError, Composer, leave_to_ours
from sweeps.wording import nearest

_REQUIRED = ("task.images", "task.data", "model.name", "model._target_")
"""Keys without which others of their group make no sense: they are given along with each."""
_KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
"""What OmegaConf calls a type, in words."""


def diagnose(overrides: Sequence[str], conf: Path, nodes: Sequence[Node]) -> list[str]:
    """Problems of the overrides of one command line, sweeps included; empty if each override is fine by itself.

    `conf` is the folder of the configuration, `nodes` are those that trials would run on.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base=None):
        found = _Diagnosis(GlobalHydra.instance().config_loader(), nodes).problems(overrides)
    return list(dict.fromkeys(line for problem in found for line in problem.splitlines()))


class _Diagnosis:
    """The diagnosis of one command line."""

    def __init__(self, loader: ConfigLoader, nodes: Sequence[Node]) -> None:
        self._loader, self._nodes = loader, nodes
        self._composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
        self._choices: dict[str, list[str]] = defaultdict(list)
        """The overrides that choose from a config group and are good, by group."""
        self._required: dict[str, str] = {}
        """By key, the overrides that others are not asked about without."""

    def problems(self, overrides: Sequence[str]) -> list[str]:
        parsed, found = [], []
        for text in overrides:
            try:
                parsed.append(OverridesParser.create(config_loader=self._loader).parse_override(text))
            except ComposeError as error:
                found.append(f"{text}: expected KEY=VALUE as Hydra reads it. Received: {_first_line(error)}")
        groups = [override for override in parsed if self._loader.get_group_options(override.key_or_group)]
        values = [override for override in parsed if override not in groups]
        for override in groups:
            found += self._choose(override)
        # Whether a cluster's values are good can only be said of all of them together.
        needed = [o for o in values if o.key_or_group in _REQUIRED or o.key_or_group.startswith("cluster.")]
        self._required = {o.key_or_group: _telling(o) for o in needed if self._is_taken(o)}
        for override in [*groups, *values]:
            # What a choice is good for depends on the others: a task on its net.
            own = self._choices[override.key_or_group] if override in groups else _points(override)
            found += [
                problem for text in own for base in self._bases(override) for problem in self._at(base, text, override)
            ]
        return found

    def _choose(self, override: Override) -> Iterator[str]:
        """Take note of the choices that are there, and tell of those that are not."""
        for text in _points(override):
            try:
                self._composed([text])
            except ComposeError as error:
                yield self._sentence(text, override, error, [])
            else:
                self._choices[override.key_or_group].append(text)

    def _is_taken(self, override: Override) -> bool:
        """Whether its key is there and takes a value of that type, under any choice."""
        for base in self._bases(override):
            with contextlib.suppress(*ComposeError):
                self._composed([*base, _telling(override)])
                return True
        return False

    def _bases(self, override: Override) -> list[list[str]]:
        """Group choices under which to try an override: each of the group it lies in, the first of every other."""
        own = override.key_or_group.split(".")[0]
        first = [texts[0] for group, texts in self._choices.items() if group != own and texts]
        if own == override.key_or_group or not self._choices.get(own):
            return [first]
        return [[*first, text] for text in self._choices[own]]

    def _at(self, base: Sequence[str], text: str, override: Override) -> list[str]:
        """The problems of one override under these group choices."""
        try:
            cfg = self._composed([*base, text])
        except ComposeError as error:
            return [self._sentence(text, override, error, base)]
        try:
            cfg = self._composed([*base, text, *self._lacking(cfg, override)])
        except ComposeError:
            return []  # what is lacking is wrong itself, and is told of
        try:
            trial, found = schema.read(cfg)
        except UsageError as error:
            return error.problems
        except ComposeError as error:
            return [f"{text}: {_first_line(error)}"]
        if cfg.cluster.name in ("local", "inline"):  # of other clusters' nodes nothing is known here
            found += checks.problems([trial], self._nodes)
        return found

    def _lacking(self, cfg: DictConfig, override: Override) -> list[str]:
        """What this config can be given along with the override."""
        return [text for key, text in self._required.items() if key != override.key_or_group and _takes(cfg, key)]

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        """The config of any overrides: quickly, or with Hydra's own keys as Hydra does."""
        own = any(re.match(r"[+~]*hydra[./]", text) for text in overrides)
        if not own:
            return self._composer.compose(overrides)
        config = compose("config", list(overrides))
        leave_to_ours(config, overrides)
        return config

    def _sentence(self, text: str, override: Override, error: Exception, base: Sequence[str]) -> str:
        """What is wrong with an override that Hydra refuses under these group choices."""
        key, value = override.key_or_group, text.partition("=")[2]
        if options := self._loader.get_group_options(key):
            return f"{text}: there is no {key} of that name.{nearest(value, options)}"
        if key.startswith("hydra."):
            cfg = compose("config", list(base), return_hydra_config=True)
        else:
            cfg = self._composed(base)
            with contextlib.suppress(*ComposeError):  # it is told of in its turn
                cfg = self._composed([*base, *self._lacking(cfg, override)])
        adds = override.is_add() or override.is_force_add()
        return (None if adds else _no_such_key(text, key, cfg)) or _bad_value(text, key, value, cfg, error)


def _points(override: Override) -> Iterator[str]:
    """The override at each value that it sweeps over."""
    if override.is_sweep_override() and override.is_discrete_sweep():
        for value in override.sweep_string_iterator():
            yield f"{override.get_key_element()}={value}"
    else:
        yield override.input_line or ""


def _telling(override: Override) -> str:
    """The first value of an override that is not null, under which others of its group may be good."""
    points = list(_points(override))
    return next((text for text in points if not text.endswith("=null")), points[0])


def _takes(cfg: DictConfig, key: str) -> bool:
    group, _, leaf = key.partition(".")
    return leaf in cfg[group]


def _no_such_key(text: str, key: str, cfg: DictConfig) -> str | None:
    """The sentence for a key that is not there; None: it is."""
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
    near = nearest(parts[depth], [str(name) for name in node if parent or name != "hydra"])
    if not _open(parent, node):
        return f"{text}: {where}.{near}"
    # A dot in a name would be read as another level; inputs have one.
    added = f"+{parent}={{{rest}: {value}}}" if "." in rest and parent != "inputs" else f"+{key}={value}"
    return f"{text}: {where}.{near} Write {added} to add it."


def _open(parent: str, node: DictConfig) -> bool:
    """Whether any key may be added to this node: a callable of the user's own takes whatever arguments it has."""
    if parent == "model":
        return node.get("_target_") is not None
    return parent != "" and OmegaConf.get_type(node) is dict


def _bad_value(text: str, key: str, value: str, cfg: DictConfig, error: Exception) -> str:
    """The sentence for a value that its key does not take."""
    cause = _first_line(error.__cause__ or error)
    if isinstance(node := OmegaConf.select(cfg, key), DictConfig):
        if wanted := re.search(r"Key '(.*)' is not in struct", cause):
            near = did_you_mean(wanted[1], map(str, node))
            added = f" Write +{text} to add it." if _open(key, node) else ""
            return f"{text}: {key} has no key {wanted[1]!r}.{near}{added}"
        if not value.startswith("{"):
            return f"{text}: expected names and values, as +{key}={{NAME: VALUE}}. Received: {value!r}."
    if wanted := re.search(r"could not be converted to (\w+)|is not a valid (bool)", cause):
        kind = wanted[1] or wanted[2]
        return f"{text}: expected {_KINDS.get(kind, kind)}. Received: {value!r}."
    if wanted := re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", cause):
        near = did_you_mean(wanted[1], wanted[2].split(", "))
        return f"{text}: expected one of {wanted[2]}. Received: {wanted[1]!r}.{near}"
    if "Cannot merge DictConfig with ListConfig" in cause:
        return f"{text}: expected a list, as {key}=[VALUE,VALUE]. Received: {value!r}."
    if "is not a ListConfig" in cause or "not a sequence" in cause:
        return f"{text}: expected a list, as {key}=[{value}]. Received: {value!r}."
    return f"{text}: {cause}"


def _first_line(error: BaseException) -> str:
    return next(filter(None, str(error).splitlines()), type(error).__name__)
