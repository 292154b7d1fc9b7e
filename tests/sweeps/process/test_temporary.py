from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.errors import UsageError
from sweeps.process import temporary

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a short name, that everybody may write to as into the machine's."""
    folder = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    folder.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_a_folder_is_closed_to_others_whatever_the_umask(place: Path) -> None:
    before = os.umask(0o777)
    try:
        with temporary.Folder("ray") as folder:
            assert folder.parent == place / f"sweeps-{os.geteuid()}"
            assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]
    finally:
        os.umask(before)
    assert not folder.exists()


@needs_root
@pytest.mark.parametrize("kind", ["folder", "link", "file", "open to all"])
def test_a_name_that_somebody_has_taken_is_left_alone(place: Path, kind: str) -> None:
    planted, target = place / f"sweeps-{os.geteuid()}", place / "target"
    target.mkdir()
    if kind == "folder":
        planted.mkdir(mode=0o700)
        os.chown(planted, NOBODY, NOBODY)
    elif kind == "link":
        planted.symlink_to(target)
    elif kind == "file":
        planted.touch()
    else:
        planted.mkdir()
        planted.chmod(0o777)
    with temporary.Folder("ray") as folder:
        assert folder.parent == place / f"sweeps-{os.geteuid()}-1"
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "another's"])
def test_a_lock_file_is_a_plain_file_of_ones_own_and_keeps_its_content(place: Path, kind: str) -> None:
    precious, lock = place / "precious", place / "lock"
    precious.write_text("a year's work")
    os.close(temporary.open_lock(precious))
    if kind == "link":
        lock.symlink_to(precious)
    elif kind == "fifo":
        os.mkfifo(lock)
    elif os.geteuid() != 0:
        pytest.skip("needs root, to give a file to another user")
    else:
        lock.touch()
        os.chown(lock, NOBODY, NOBODY)
    with pytest.raises(OSError, match=r"is a link|is a pipe|another user"):
        temporary.open_lock(lock)
    assert precious.read_text() == "a year's work"


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(place: Path) -> None:
    code = "import os; from sweeps.process.temporary import Folder; print(Folder('fork').path); os.kill(os.getpid(), 9)"
    environment = os.environ | {"TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-uc", code], env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    left = Path(killed.stdout.strip())
    assert left.is_dir()
    without_lock = left.with_name("ray-12345678")
    without_lock.mkdir()
    with temporary.Folder("fork") as used:
        temporary.remove_abandoned()
        assert used.is_dir()
        assert not left.exists()
        assert not without_lock.exists()


def test_the_temporary_files_of_a_process_go_with_it_after_its_libraries_have_tidied_up(place: Path) -> None:
    code = (
        "import atexit, os, tempfile\n"
        "from sweeps.process import temporary\n"
        "with temporary.scratch():\n"
        "    assert temporary.base() == temporary.Path(os.environ['TMPDIR'], f'sweeps-{os.geteuid()}')\n"
        "    atexit.register(os.rmdir, tempfile.mkdtemp())\n"
        "    print(tempfile.mkdtemp())\n"
    )
    environment = os.environ | {"TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    left = Path(done.stdout.strip())
    assert left.parent.parent == place / f"sweeps-{os.geteuid()}"
    assert not left.parent.exists()


@needs_root
def test_what_other_users_left_is_left_alone(place: Path) -> None:
    other = place / f"sweeps-{NOBODY}" / "fork-12345678"
    other.mkdir(parents=True)
    (other / "lock").touch()
    temporary.remove_abandoned()
    assert other.exists()


def test_a_long_path_is_kept_for_what_holds_no_socket(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = place / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert temporary.base().parent == long
    with temporary.Folder("fork", room=len("/socket")) as folder:
        assert folder.parent.parent == Path("/tmp")


def test_no_place_to_write_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place / "file"
    file.touch()
    monkeypatch.setattr("tempfile.tempdir", str(file))
    with pytest.raises(UsageError, match=r"expected a folder for temporary files .*TMPDIR.*Not a directory"):
        temporary.base()


def test_a_sweep_without_a_temporary_folder_is_refused_in_a_sentence(place: Path, tmp_path: Path) -> None:
    (place / f"sweeps-{os.geteuid()}").touch()
    for number in range(1, 100):
        (place / f"sweeps-{os.geteuid()}-{number}").touch()
    command = [sys.executable, str(ROOT / "sweeps" / "run.py"), "model=tiny", "cluster=inline", "tracking=none"]
    environment = os.environ | {"TMPDIR": str(place), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"(TMPDIR) no other user has taken. Received: {place}." in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
