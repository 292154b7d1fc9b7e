"""Documents that agree with the code: every file they name exists, and the design shows the rooms in their order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_imports import DOWNWARDS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "tests" / "data" / "README.md"])
FOLDERS = "benchmarks|conf|docs|hydra_plugins|nets|sweeps|tests|tracking"
NAMED = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*-]*")
LINKED = re.compile(r"\]\(([^)#\s]+)")


def _exists(name: str) -> bool:
    """Whether a file or pattern exists; of a path with a free part, as in `conf/task/NAME.yaml`, its folder."""
    parts = name.split("/")
    chosen = [index for index, part in enumerate(parts) if re.fullmatch(r"[A-Z]+", part.partition(".")[0])]
    name = "/".join(parts[: chosen[0]]) if chosen else name
    return any(ROOT.glob(name)) if "*" in name else (ROOT / name).exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = {name.rstrip("./") for name in NAMED.findall(text)}
    linked = {link for link in LINKED.findall(text) if "://" not in link}
    missing = {name for name in named if not _exists(name)}
    missing |= {link for link in linked if not (document.parent / link).exists()}
    assert missing == set()


def test_the_design_shows_every_room_in_the_order_of_imports() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"(?m)^    sweeps\n(?:    .+\n)+", design)
    shown: list[str] = []
    package = ""
    for line in picture.splitlines():
        indent, words = len(line) - len(line.lstrip()), line.strip()
        if indent == 4:
            package = words
        else:
            rooms, _, _ = words.partition("  ")
            shown += [f"{package}.{room}" for room in rooms.split(", ")]
    assert tuple(shown) == DOWNWARDS
