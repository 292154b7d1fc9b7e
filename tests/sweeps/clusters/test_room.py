"""What keeps Ray from starting is reported in one sentence before anything has started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sweeps.clusters import room
from sweeps.machine import cgroup

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
RUN = [sys.executable, str(ROOT / "sweeps" / "run.py"), "model=tiny", "tracking=none", "calibrate=false"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for another user or a mount")


def refused(command: list[str], folder: Path, **env: str) -> str:
    """Return what a sweep that cannot start prints, after a check that it has left nothing behind."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_"))}
    done = subprocess.run(command, cwd=folder, env=kept | env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "cluster=inline" in done.stderr
    assert list(folder.iterdir()) == []
    return done.stderr


def test_too_few_open_files(tmp_path: Path) -> None:
    output = refused(["bash", "-c", 'ulimit -n 100; exec "$@"', "bash", *RUN], tmp_path)
    assert "the limit on open files (ulimit -n) is 100" in output


@needs_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_no_loopback_interface(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-n", "true"], check=False).returncode != 0:
        pytest.skip("needs the right to make a network namespace")
    output = refused(["unshare", "-n", *RUN], tmp_path)
    assert "nothing can be reached at 127.0.0.1 (Network is unreachable)" in output


@needs_root
def test_no_room_for_logs(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))  # a short name, or sweeps would go elsewhere
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        output = refused(RUN, tmp_path, TMPDIR=str(place))
        assert "has 8 MB of free space" in output
        assert [path.name for path in place.glob("sweeps-*/*")] == ["lock"]
    finally:
        subprocess.run(["umount", place], check=False)
        place.rmdir()


@needs_root
def test_too_few_processes_for_a_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    code = (
        "import os, resource, sys; from pathlib import Path; from sweeps.clusters import room as ray_room\n"
        f"resource.setrlimit(resource.RLIMIT_NPROC, (90, 90)); os.setuid({NOBODY})\n"
        "print(ray_room.problems(Path('/tmp')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "the limit on processes and threads (ulimit -u) is 90, " in done.stdout, done.stderr


def test_too_few_processes_for_a_container(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/job\n",
        "proc/self/mountinfo": "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/job/pids.max": "100\n",
        "sys/fs/cgroup/job/pids.current": "40\n",
        "sys/fs/cgroup/pids.max": "max\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup.processes_left(tmp_path) == 60


def test_the_reason_is_taken_from_rays_logs(tmp_path: Path) -> None:
    logs = tmp_path / "ray" / "session_2026" / "logs"
    logs.mkdir(parents=True)
    error = RuntimeError("Failed to start GCS.\nPlease check")
    assert room.why(tmp_path, error) == "Failed to start GCS"
    (logs / "gcs_server.err").write_text("[C] Check failed: write: No space left on device\n")
    assert room.why(tmp_path, error) == f"{tmp_path} (No space left on device)"
