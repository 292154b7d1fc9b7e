from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tracking.folder import files


def test_what_is_written_replaces_a_link_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").symlink_to(tmp_path / "mine")
    files.write(tmp_path / "folder", "file", b"new")
    files.write(tmp_path / "folder", "a/b/file", b"deep")
    assert (tmp_path / "mine").read_text() == "mine"
    assert files.read(tmp_path / "folder", "file") == b"new"
    assert files.read(tmp_path / "folder", "a/b/file") == b"deep"
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a", "file"]
    (tmp_path / "folder" / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write(tmp_path / "folder", "taken", b"")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a", "file", "taken"]


@pytest.mark.parametrize("way", ["link/file", "a/../../mine", "a/link/file"])
def test_no_way_leads_out_of_the_folder(way: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / "folder" / "a").mkdir(parents=True)
    for place in ("link", "a/link"):
        (tmp_path / "folder" / place).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=r"it leads out of its folder|link is a link, and not a folder"):
        files.write(tmp_path / "folder", way, b"new")
    with pytest.raises(OSError, match=r"it leads out of its folder|link is a link, and not a folder"):
        files.read(tmp_path / "folder", way)
    assert files.names(tmp_path / "folder", way.rpartition("/")[0]) == []
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert files.names(tmp_path, "mine") == ["file"]


def test_only_plain_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345678")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert files.read(tmp_path, "link", follow=True) == b"12345678"
    assert files.end(tmp_path, "file", 3) == b"678"
    for name, most, words in (
        ("link", 8, "it is a link, and not a file"),
        ("pipe", 8, "it is a pipe, and not a file"),
        ("folder", 8, "it is a folder, and not a file"),
        ("file", 7, "it has 8 bytes, more than the 7 that are read"),
    ):
        with pytest.raises(OSError, match=words):
            files.read(tmp_path, name, most)
    with pytest.raises(OSError, match="it is a link, and not a file") as refused:
        files.open_to_write(tmp_path / "link")
    assert refused.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="it is a pipe, and not a file"):
        files.open_to_write(tmp_path / "pipe")
