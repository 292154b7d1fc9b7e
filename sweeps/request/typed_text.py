"""Text on the command line that Hydra would take for something else.

Hydra reads `{version: 1.30}` as the number 1.3 and `{gpu: true}` as a truth value, and a label made of them would be
`1.3` and `True`, which no machine has. It does not read `[--qos=high]` at all, and takes a mapping's new names only
after a plus. Where a setting holds texts, each value is put in quotes before Hydra sees it, so that it stays as it was
typed, and a mapping gets its plus.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_type_hints

from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import CommonTokenStream, InputStream, OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from sweeps.clusters.kinds import KINDS
from sweeps.process.project import ROOT
from sweeps.request.options import DeviceConf
from sweeps.typed.arguments import Arguments
from sweeps.typed.command_line import text

_LISTS, _MAPPINGS = (list[str], list[Any]), (dict[str, str],)
_ITEM = re.compile(r"""(?:\{[^{}]*\}|'[^']*'|"[^"]*"|[^,{}'"])+""")
"""An item of a list: what stands between its commas."""


def as_typed(arguments: Arguments) -> Arguments:
    """Return the arguments with their texts in quotes where Hydra would read them as anything else."""
    return arguments.with_words(map(_as_typed, arguments.words))


def _as_typed(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if value == "null" and key.isidentifier() and (ROOT / "conf" / key).is_dir():
        return f"~{key}"  # no choice from a config group
    name = key.lstrip("+")
    in_mapping = name.rpartition(".")[0] in _keys(_MAPPINGS)
    is_mapping, is_list = name in _keys(_MAPPINGS), name in _keys(_LISTS)
    if not equals or "${" in value or not (in_mapping or is_mapping or is_list):
        return argument
    try:
        override = _parsed(argument)
    except HydraException:
        if not is_list or not (value.startswith("[") and value.endswith("]")):
            return argument
        return f"{key}=[{','.join(_item(item.strip()) for item in _ITEM.findall(value[1:-1]))}]"
    received = override.value()
    if override.is_sweep_override() or (isinstance(received, str) and not in_mapping):
        return argument  # a grid, or neither list nor mapping, which is reported where the types are checked
    return f"{'' if is_list or key != name else '+'}{key}={_quoted(received)}"


def _item(written: str) -> str:
    """Return an item of a list that Hydra cannot read, in quotes if this item is the reason."""
    try:
        return _quoted(_parsed(f"item={written}").value())
    except HydraException:
        return _quoted(written)


@cache
def _keys(kinds: tuple[Any, ...]) -> frozenset[str]:
    """Return the keys whose values are declared as one of these types."""
    groups = [("device", DeviceConf), *(("cluster", kind) for kind in KINDS.values())]
    names = {
        f"{group}.{name}" for group, conf in groups for name, kind in get_type_hints(conf).items() if kind in kinds
    }
    # Slurm's also take a plain text, which no type of OmegaConf's can express.
    return frozenset(names | ({"cluster.setup", "cluster.sbatch"} if kinds is _LISTS else set()))


class _Visitor(HydraOverrideVisitor):
    """Reads every value as text."""

    def visitPrimitive(self, ctx: OverrideParser.PrimitiveContext) -> Any:  # noqa: N802 - Hydra's name
        value = super().visitPrimitive(ctx)
        return value if isinstance(value, (str, QuotedString)) else ctx.getText()


def _parsed(argument: str) -> Override:
    """Return the override, with texts for values. Raises HydraException where Hydra cannot read it."""
    listener = HydraErrorListener()
    lexer = OverrideLexer(InputStream(argument))
    parser = OverrideParser(CommonTokenStream(lexer))
    for reader in (lexer, parser):
        reader.removeErrorListeners()
        reader.addErrorListener(listener)
    override: Override = _Visitor(create_functions()).visit(parser.override())
    override.validate()
    return override


def _quoted(value: Any) -> str:
    """Return a value as Hydra's command line takes it, with every text in quotes."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}: {_quoted(each)}' for key, each in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_quoted, value))}]"
    written = text(value)
    return written if written.startswith("'") else f"'{written}'"
