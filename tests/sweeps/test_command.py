"""What an error means for the user of the command line."""

from __future__ import annotations

import errno
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps import command
from sweeps.typed.arguments import Arguments
from sweeps.worker.forkserver import LastingServer
from tests.support.sweep_command import COMMAND, plain_environment


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def failing(_: Arguments) -> None:
        raise error

    monkeypatch.setattr(command, "_run", failing)
    return command.main(LastingServer(), Arguments(program="run.py", words=()))


@pytest.mark.parametrize(
    ("error", "received"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/results"), "/results (Permission denied)"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/b"), "/a/b (Not a directory)"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
)
def test_a_folder_that_cannot_be_written_is_reported(
    error: OSError, received: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(error, monkeypatch) == 2
    sentence = f"error: expected a results folder that can be written to. Received: {received}."
    assert capsys.readouterr().err.splitlines() == [sentence]


def test_an_error_of_the_network_is_not_blamed_on_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionResetError):
        fail_with(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), monkeypatch)


def test_a_reader_that_goes_away_interrupts_in_silence(tmp_path: Path) -> None:
    command = [*COMMAND, "model=tiny", "cluster=slurm", "dry_run=true"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=plain_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(100)) == ("", 130)
    assert list(tmp_path.iterdir()) == []
