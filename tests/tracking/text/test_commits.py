from __future__ import annotations

from tracking.text.commits import commits, differences

TOOL = {"git_commit": "a" * 40, "git_clean": True}
PROJECT = {"git_project_commit": "b" * 40, "git_project_clean": False}


def test_both_commits_are_reported_with_uncommitted_changes() -> None:
    assert commits({}) == []
    assert commits({"git_commit": "0123abc"}) == ["this tool at commit 0123abc"]  # of an old plan
    assert commits(TOOL | PROJECT) == [
        "this tool at commit aaaaaaaaaaaa",
        "the project at commit bbbbbbbbbbbb with uncommitted changes",
    ]
    assert commits(TOOL | {"git_project_commit": "a" * 40, "git_project_clean": True}) == [
        "this tool at commit aaaaaaaaaaaa"
    ]
    assert commits({"git_project_unknown": "ownership"}) == ["the commit of the project is not known (ownership)"]


def test_only_what_both_sides_know_can_differ() -> None:
    assert differences(TOOL | PROJECT, TOOL | PROJECT) == ""
    assert differences(TOOL, PROJECT) == ""
    assert differences(TOOL | PROJECT, TOOL | {"git_project_commit": "b" * 40, "git_project_clean": True}) == (
        "the project was at bbbbbbbbbbbb with uncommitted changes and is at bbbbbbbbbbbb"
    )
