"""From overrides to configs: the points of a grid quickly and, when Hydra refuses one, every problem of the grid."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sweeps import plan, schema
from sweeps.devices import Node
from sweeps.errors import nearest

ComposeError = (HydraException, OmegaConfBaseException)
Compose = Callable[[Sequence[str]], DictConfig]
_REQUIRED = ("task.images", "task.data")
"""Keys without which no other key of their group makes sense: they are given along with each."""


class Composer:
    """Composes the points of a grid as Hydra does, but each choice of config groups only once.

    Hydra takes 60 ms a point, nearly all of it for the groups. Values are applied to a copy, by Hydra's own function.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._groups: dict[str, bool] = {}
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of one point, without the `hydra` node. Raises what Hydra raises."""
        parsed = [self._parse(text) for text in overrides]
        groups = tuple(override.input_line for override, is_group in parsed if is_group)
        if groups not in self._bases:
            base = self._loader.load_sweep_config(self._master, list(groups))
            with open_dict(base):
                del base["hydra"]
            self._bases[groups] = base
        config = copy.deepcopy(self._bases[groups])
        ConfigLoaderImpl._apply_overrides_to_config([override for override, is_group in parsed if not is_group], config)
        return config

    def _parse(self, text: str) -> tuple[Override, bool]:
        """The override, and whether it chooses from a config group; both take Hydra milliseconds to find out."""
        if text not in self._parsed:
            override = self._parser.parse_override(text)
            self._parsed[text] = override, override.package is not None or self._is_group(override.key_or_group)
        return self._parsed[text]

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            self._groups[key] = bool(self._loader.get_group_options(key))
        return self._groups[key]


def diagnose(overrides: Sequence[str], conf: Path, nodes: Sequence[Node]) -> list[str]:
    """Problems of the overrides of one command line, sweeps included; empty if each override is fine by itself.

    Hydra stops at the first error; here every override is composed by itself and asked what is wrong with it.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base=None):
        loader = GlobalHydra.instance().config_loader()
        composed = _composing(loader)
        parsed, found = [], []
        for text in overrides:
            try:
                parsed.append(OverridesParser.create(config_loader=loader).parse_override(text))
            except ComposeError as error:
                found.append(f"{text}: expected KEY=VALUE as Hydra reads it. Received: {_first_line(error)}")
        groups = [override for override in parsed if loader.get_group_options(override.key_or_group)]
        values = [override for override in parsed if override not in groups]
        # Whether a cluster's values are good can only be said of all of them together.
        needed = [o for o in values if o.key_or_group in _REQUIRED or o.key_or_group.startswith("cluster.")]
        required = {o.key_or_group: next(_points(o)) for o in needed}
        choices: dict[str, list[str]] = {}
        for override in groups:
            for text in _points(override):
                try:
                    composed([text])
                except ComposeError as error:
                    found.append(_sentence(text, override, error, loader, composed, []))
                else:
                    choices.setdefault(override.key_or_group, []).append(text)
        # What a choice is good for depends on the others: a task on its net.
        for override in groups:
            others = [texts[0] for group, texts in choices.items() if group != override.key_or_group]
            mine = choices.get(override.key_or_group, [])
            tried = (_problem(others, text, override, loader, composed, nodes, required) for text in mine)
            found += filter(None, tried)
        for override in values:
            for text in _points(override):
                bases = _bases(choices, override)
                tried = (_problem(base, text, override, loader, composed, nodes, required) for base in bases)
                found += filter(None, tried)
    return list(dict.fromkeys(line for problem in found for line in problem.splitlines()))


def _composing(loader: ConfigLoader) -> Compose:
    """Composes any overrides: those of a grid's points quickly, Hydra's own keys as Hydra does."""
    composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))

    def composed(overrides: Sequence[str]) -> DictConfig:
        own = any(re.match(r"[+~]*hydra[./]", text) for text in overrides)
        return compose("config", list(overrides)) if own else composer.compose(overrides)

    return composed


def _points(override: Override) -> Iterator[str]:
    """The override at each value that it sweeps over."""
    if override.is_sweep_override() and override.is_discrete_sweep():
        for value in override.sweep_string_iterator():
            yield f"{override.get_key_element()}={value}"
    else:
        yield override.input_line or ""


def _bases(choices: dict[str, list[str]], override: Override) -> list[list[str]]:
    """Group choices under which to try a value: each choice of the group it lies in, the first of every other."""
    own = override.key_or_group.split(".")[0]
    first = [texts[0] for group, texts in choices.items() if group != own]
    return [[*first, text] for text in choices[own]] if own in choices else [first]


def _problem(
    base: list[str],
    text: str,
    override: Override,
    loader: ConfigLoader,
    composed: Compose,
    nodes: Sequence[Node],
    required: Mapping[str, str],
) -> str | None:
    try:
        cfg = composed([*base, text])
    except ComposeError as error:
        return _sentence(text, override, error, loader, composed, base)
    lacking = [given for key, given in required.items() if key != override.key_or_group and _takes(cfg, key)]
    try:
        cfg = composed([*base, text, *lacking])
    except ComposeError:
        return None  # what is lacking is wrong itself, and is told of
    try:
        trial, found = schema.read(cfg)
        if cfg.cluster.name in ("local", "inline"):  # of other clusters' nodes nothing is known here
            found += plan.problems([trial], nodes)
        return "\n".join(found) or None
    except ComposeError as error:
        return f"{text}: {_first_line(error)}"


def _takes(cfg: DictConfig, key: str) -> bool:
    group, _, leaf = key.partition(".")
    return leaf in cfg[group]


def _sentence(
    text: str, override: Override, error: Exception, loader: ConfigLoader, composed: Compose, base: list[str]
) -> str:
    key, value = override.key_or_group, text.partition("=")[2]
    options = loader.get_group_options(key)
    if options:
        return f"{text}: there is no {key} of that name.{nearest(value, options)}"
    own = key.startswith("hydra.")
    cfg = compose("config", base, return_hydra_config=True) if own else composed(base)
    parent, _, leaf = key.rpartition(".")
    if (root := key.split(".")[0]) not in cfg:
        parent, leaf = "", root
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig):
        return f"{text}: {parent} has no keys of its own."
    if leaf not in node:
        where = f"{parent} has no key {leaf!r}" if parent else f"there is no key {leaf!r}"
        names = [str(name) for name in node if parent or name != "hydra"]
        return f"{text}: {where}.{nearest(leaf, names)}"
    cause = _first_line(error.__cause__ or error)
    if wanted := re.search(r"could not be converted to (\w+)", cause):
        kind = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"{text}: expected {kind.get(wanted[1], wanted[1])}. Received: {value!r}."
    if wanted := re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", cause):
        near = nearest(wanted[1], wanted[2].split(", "))
        return f"{text}: expected one of {wanted[2]}. Received: {wanted[1]!r}.{near}"
    if "is not a ListConfig" in cause or "not a sequence" in cause:
        return f"{text}: expected a list, as {key}=[{value}]. Received: {value!r}."
    return f"{text}: {cause}"


def _first_line(error: BaseException) -> str:
    return next(filter(None, str(error).splitlines()), type(error).__name__)
