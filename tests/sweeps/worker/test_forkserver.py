from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.errors import DispatchError
from sweeps.worker.child import Call
from sweeps.worker.forkserver import ForkServer, connect
from sweeps.worker.wire import Send


def answer(argument: Any, send: Send) -> None:
    sys.stdout.write("to the log\n")
    tensorflow = sys.modules["tensorflow"]
    send("answer", (argument, sorted(os.sched_getaffinity(0)), os.environ.get("MARK"), tensorflow.__version__))


def state(_: Any, send: Send) -> None:
    import keras
    from tensorflow.python.eager import context

    from nets import registry

    send("runtime", context.context()._context_handle)
    parent = Path("/proc") / str(os.getppid()) / "task"
    send("threads", [name for task in parent.iterdir() if "tf_" in (name := (task / "comm").read_text())])
    send("name", keras.layers.Dense(1).name)
    send("known", registry._applications.cache_info().currsize)


def leave_a_file(_: Any, send: Send) -> None:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        send("file", file.name)


def wait_for_ever(_: Any, send: Send) -> None:
    send("child", os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "3600"))
    time.sleep(3600)


def messages(address: str, call: Call) -> Iterator[tuple[str, Any]]:
    with connect(address) as connection:
        connection.send(call)
        while True:
            kind, value = connection.recv()
            yield kind, value
            if kind == "exit":
                return


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds."""
    try:
        psutil.Process(pid).wait(timeout=10)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def test_a_call_runs_in_a_fresh_process_with_tensorflow_there(server: str, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    core = min(os.sched_getaffinity(0))
    call = Call(
        function="tests.sweeps.worker.test_forkserver:answer",
        argument=3,
        cores=(core,),
        env={"MARK": "x"},
        log=str(log),
    )
    first, second = dict(messages(server, call)), dict(messages(server, call))
    assert first["answer"][:3] == (3, [core], "x")
    assert first["exit"] == 0
    assert first["pid"] != second["pid"]
    assert log.read_text() == "to the log\n" * 2


def test_the_server_is_warm_and_has_touched_nothing(server: str) -> None:
    found = dict(messages(server, Call(function="tests.sweeps.worker.test_forkserver:state", argument=None)))
    assert found["exit"] == 0
    assert found["known"] == 1
    assert found["runtime"] is None
    assert found["threads"] == []
    assert found["name"] == "dense"


def test_an_exception_is_exit_code_1_and_its_traceback_in_the_log(server: str, tmp_path: Path) -> None:
    call = Call(function="no.such.module:name", argument=None, log=str(tmp_path / "log.txt"))
    assert os.waitstatus_to_exitcode(dict(messages(server, call))["exit"]) == 1
    assert "No module named 'no'" in (tmp_path / "log.txt").read_text()


def test_a_child_and_its_own_children_end_with_their_client(server: str) -> None:
    with connect(server) as connection:
        connection.send(Call(function="tests.sweeps.worker.test_forkserver:wait_for_ever", argument=None))
        pid, grandchild = connection.recv()[1], connection.recv()[1]
    assert gone(pid)
    assert gone(grandchild)


def test_everything_ends_with_the_server_even_when_it_is_killed() -> None:
    with ForkServer() as server:
        server.wait_ready()
        with connect(server.address) as connection:
            connection.send(Call(function="tests.sweeps.worker.test_forkserver:wait_for_ever", argument=None))
            pid = connection.recv()[1]
            server._process.send_signal(signal.SIGKILL)
            assert gone(pid)


def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("raise ImportError('keras is broken here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ForkServer() as server, pytest.raises(DispatchError, match="keras is broken here"):
        server.wait_ready()


def test_a_server_that_is_not_needed_after_all_is_not_waited_for() -> None:
    server = ForkServer()
    server.close()
    assert server._process.returncode == -signal.SIGKILL


def test_no_server_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DispatchError, match="expected a fork server at"):
        connect(str(tmp_path / "nothing"))


def test_what_a_child_leaves_in_temporary_files_goes_with_the_server() -> None:
    with ForkServer() as server:
        server.wait_ready()
        left = dict(messages(server.address, Call(function=f"{__name__}:leave_a_file", argument=None)))["file"]
        assert Path(left).is_file()
    assert not Path(left).exists()
