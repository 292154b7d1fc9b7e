"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sweeps.worker.forkserver import ForkServer

# The same examples in every run, however long one takes: neither chance nor the clock fails a test. A long run, which
# FUZZ_EXAMPLES asks for, looks further each time.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
# Under nohup, what is started would ignore it as well: with a handler here, it is as usual there.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for what this run and its processes put into the machine's: core claims, fork servers, Ray's sessions.

    Sweeps outside the run hold none of its cores, and what it leaves behind is its own. Its name is short, because
    Ray's sockets lie in it, whose paths may have 107 characters.
    """
    tmp_path_factory.getbasetemp()  # pytest's own folders stay where they are kept for a look at them
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    folder.chmod(0o711)  # PostgreSQL runs as a user of its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", None)
        yield
    shutil.rmtree(folder, ignore_errors=True)  # what was killed may still be writing there


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a warm fork server; one for the whole run, because it takes seconds to warm."""
    with ForkServer() as running:
        running.wait_ready()
        yield running.address
