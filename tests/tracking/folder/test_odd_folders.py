"""Sweeps' folders with arbitrary contents: no reader hangs, fails with a traceback or writes elsewhere."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.errors import UsageError
from sweeps.identity import resume
from sweeps.plan import estimate
from tests.support.records import make_result, make_sweep, write_journal
from tracking import compare, show, sync
from tracking.folder.journal import Journal, JournalError, locked
from tracking.text.printable import printable_lines

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
TITLE = "\x1b]0;stolen\x07\u202e\r[red]"


def keep(folder: Path, sweep_id: str = "20251009-080000-aaaaaa", **trial: Any) -> Path:
    results = [make_result(batch=batch, sweep_id=sweep_id, steps=12, **trial) for batch in (4, 8)]
    write_journal(make_sweep(results, folder, facts={"tracking": {"csv": {}}}), results)
    return folder


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # its own path may be too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


ODD: dict[str, Callable[[Path], None]] = {
    "a pipe": pipe,
    "a socket": bound_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "itself": lambda path: path.symlink_to(path.name),
    "10 GB": sparse,
    "deep": lambda path: path.write_text("[" * 200_000 + "\n"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}\n"),
    "a number": lambda path: path.write_text("1e999\n"),
    "digits": lambda path: path.write_text('{"format": ' + "9" * 100_000 + "}\n"),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_one_odd_plan_hides_no_other_sweep(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = keep(home / "multirun" / "good")
    for number, make in enumerate(ODD.values()):
        (home / "multirun" / f"odd {number}").mkdir()
        make(home / "multirun" / f"odd {number}" / "plan.json")
    (home / "multirun" / "loop").symlink_to("../multirun")
    unreadable = home / "multirun" / os.fsdecode(b"\xff\x1b[31m\n")
    unreadable.mkdir()
    (unreadable / "plan.json").write_text("{")
    assert show.main([]) == 0
    printed = capsys.readouterr()
    assert "20251009-080000-aaaaaa" in printed.out
    expect_harmless(printed.out + printed.err)
    assert len(printed.err.splitlines()) == len(ODD), (
        printed.err
    )  # a folder is no plan, and of the others each has a line
    assert resume.find("20251009-08", home)[1] == good
    assert resume.find("latest", home)[1].parent == good.parent
    assert show.main(["20251009-080000-aaaaaa"]) == 0


@pytest.mark.parametrize("name", ["plan.json", "results.jsonl"])
@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_one_sentence_for_everybody(
    kind: str, name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = keep(home / "multirun" / "sweep")
    (folder / name).unlink()
    ODD[kind](folder / name)
    estimate.earlier_results(home, {})
    if name == "plan.json":
        with pytest.raises(UsageError):
            resume.find(str(folder), home)
    capsys.readouterr()
    codes = [show.main([str(folder)]), compare.main([str(folder), str(folder)]), sync.main([str(folder)])]
    printed = capsys.readouterr()
    damaged = name == "results.jsonl" and kind in ("deep", "not UTF-8", "a number", "digits")
    assert codes == ([0, 2, 0] if damaged else [2, 2, 2]), printed
    expect_harmless(printed.out + printed.err)
    complaints = [line for line in printed.err.splitlines() if str(folder) in line]
    assert complaints or damaged
    assert all(len(line) < 800 for line in complaints)


def test_links_out_of_a_folder_are_not_followed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, outside = keep(home / "sweep"), home / "outside"
    outside.mkdir()
    files = ("report.html", "results.csv", "journal.lock", "sync.lock", "results.jsonl")
    for name in files:
        (outside / name).write_text("mine\n")
    for name in ("report.html", "results.csv"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside / name)
    (folder / "plots").symlink_to(outside)
    assert sync.main([str(folder)]) == 1
    assert "plots is a link, and not a folder" in capsys.readouterr().err
    (folder / "plots").unlink()
    assert sync.main([str(folder)]) == 0
    assert not (folder / "report.html").is_symlink()
    assert not (folder / "results.csv").is_symlink()
    for name in ("journal.lock", "sync.lock"):
        (folder / name).unlink()
        (folder / name).symlink_to(outside / name)
        assert sync.main([str(folder)]) == 2
        assert f"{name} could not be opened: it is a link, and not a file" in capsys.readouterr().err
        (folder / name).unlink()
    (folder / "results.jsonl").unlink()
    (folder / "results.jsonl").symlink_to(outside / "results.jsonl")
    with Journal(folder) as journal, pytest.raises(JournalError, match="it is a link, and not a file"):
        journal.append(make_result())
    os.link(outside / "sync.lock", folder / "sync.lock")
    with locked(folder / "sync.lock"):
        pass
    assert [(outside / name).read_text() for name in files] == ["mine\n"] * len(files)
    assert sorted(path.name for path in outside.iterdir()) == sorted(files)


def test_a_report_takes_nothing_from_elsewhere(home: Path) -> None:
    folder = keep(home / "sweep")
    (home / "secret").mkdir()
    (home / "secret" / "summary.txt").write_text("not for others")
    trials = [result.trial_id for result in Journal(folder).read()]
    (folder / "trials" / trials[0]).mkdir(parents=True)
    (folder / "trials" / trials[0] / "files").symlink_to(home / "secret")
    (folder / "trials" / trials[1] / "files").mkdir(parents=True)
    pipe(folder / "trials" / trials[1] / "files" / "summary.txt")
    assert sync.main([str(folder)]) == 0
    assert "not for others" not in (folder / "report.html").read_text()


def test_nothing_that_a_sweep_says_moves_the_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = home / f"sweep {TITLE}"
    folder.mkdir()
    keep(folder, model=TITLE)
    plan = json.loads((folder / "plan.json").read_text())
    plan |= {"command": TITLE, "facts": {"git_commit": TITLE, "git_unknown": TITLE, "git_resumed": [TITLE]}}
    (folder / "plan.json").write_text(json.dumps(plan | {"created_at": 1e10}))
    with (folder / "results.jsonl").open("a") as file:
        file.write("damaged\n")
    assert show.main([str(folder)]) == 0
    assert compare.main([str(folder), str(folder), "--output", str(home / "x.png")]) == 0
    assert sync.main([str(folder)]) == 2
    printed = capsys.readouterr()
    expect_harmless(printed.out + printed.err)
    assert "\\x1b]0;stolen\\x07\\u202e" in printed.out
    assert "[red]" in printed.out


def expect_harmless(printed: str) -> None:
    """No traceback, and nothing in it that a terminal would act upon but colours of our own."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", printed)
    assert plain == printable_lines(plain)
    assert "Traceback" not in plain


# ---- Anything as a plan or a journal -------------------------------------------------------------------------------

TEXTS = st.text(max_size=8) | st.sampled_from([TITLE, "", "..", "/etc/passwd", "\ud800", "x" * 3000])
NUMBERS = st.sampled_from([0, -1, 1e300, -1e300, float("nan"), float("inf"), 2**70, 10**400, True, 1e-320])
VALUES = st.recursive(
    st.none() | TEXTS | NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within this one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in ((*way, key), *_places(each, (*way, key)))]


def _changed(record: Any, data: st.DataObject) -> Any:
    """The record with a few of its values replaced, left out or added."""
    record = json.loads(json.dumps(record))
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(record)
        *way, last = data.draw(st.sampled_from(places))
        holder = record
        for key in way:
            holder = holder[key]
        action = data.draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "remove":
            del holder[last]
        elif action == "add" and isinstance(holder, dict):
            holder[data.draw(TEXTS)] = data.draw(VALUES)
        else:
            holder[last] = data.draw(VALUES)
        if not record:
            break
    return record


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_whatever_a_folder_holds_reading_is_harmless(
    data: st.DataObject, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "multirun" / "sweep"
    if not folder.exists():
        keep(folder)
        keep(home / "multirun" / "other", "20251009-090000-bbbbbb")
        (home / "good.plan").write_bytes((folder / "plan.json").read_bytes())
        (home / "good.results").write_bytes((folder / "results.jsonl").read_bytes())
    plan = json.loads((home / "good.plan").read_text())
    lines = (home / "good.results").read_text().splitlines()
    if data.draw(st.booleans()):
        plan = _changed(plan, data)
    if data.draw(st.booleans()):
        lines[0] = json.dumps(_changed(json.loads(lines[0]), data))
    contents = [json.dumps(plan).encode(), "".join(f"{line}\n" for line in lines).encode()]
    for place in (0, 1):
        if data.draw(st.integers(0, 4)) == 0:
            at = data.draw(st.integers(0, len(contents[place])))
            contents[place] = contents[place][:at] + data.draw(st.binary(max_size=6)) + contents[place][at + 3 :]
    (folder / "plan.json").write_bytes(contents[0])
    (folder / "results.jsonl").write_bytes(contents[1])
    before = sorted(str(path) for path in home.rglob("*") if not path.is_relative_to(folder))

    codes = [show.main([]), show.main([str(folder)]), show.main(["20251009"])]
    codes += [compare.main([str(folder), "multirun/other", "--output", str(folder / "compare.png")])]
    try:
        planned, _ = resume.find(str(folder), home)
        resume.doubts(planned, folder, "http://127.0.0.1:1", planned.trials)
        resume.foreign_parts(planned.trials)
        resume.unknown_parts(planned.trials)
        sync.choose(planned, None, None)
    except (UsageError, sync.SettingsError):
        pass
    estimate.earlier_results(home, {})
    printed = capsys.readouterr()
    assert codes[0] == 0
    assert set(codes) <= {0, 2, 3}
    assert "20251009-090000-bbbbbb" in printed.out
    expect_harmless(printed.out + printed.err)
    assert sorted(str(path) for path in home.rglob("*") if not path.is_relative_to(folder)) == before
    assert sys.getrecursionlimit() >= 1000
