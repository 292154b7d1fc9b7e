"""The command line of a job on a Ray cluster's job server, wrong options, and servers that do not take the job."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeps.errors import SweepError
from sweeps.jobs.kinds.ray_job import RayJob
from sweeps.typed.command_line import Request
from tests.support.ports import free_ports
from tests.support.printed import Printed

OPTIONS = RayJob(address="http://127.0.0.1:8265")


def entrypoint(request: Request, options: RayJob = OPTIONS) -> str:
    """Return the arguments that the head's shell makes of the job's command line, one per line."""
    command = options.remote_job(request).entrypoint.replace("python sweeps/run.py", "printf '%s\\n'", 1)
    done = subprocess.run(command, shell=True, env={"HOME": "/home/me"}, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_command_line_reaches_the_heads_shell_as_it_was_given() -> None:
    given = ["-m", "model=tiny", "batch=1,2", "passes=[forward]", "+model.note=it's $HOME"]
    assert entrypoint(Request(name="sweep-1", arguments=given)).splitlines() == [
        *given,
        "hydra.sweep.dir='/home/me/sweeps/sweep-1'",
        "hydra.run.dir='/home/me/sweeps/sweep-1'",
        "tracking.uri='sqlite:////home/me/sweeps/mlflow.db'",
        "cluster=ray",
        "cluster.address=auto",
    ]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("sweep-1", "/data/sweep-1"),
        ("/other/sweep-1", "/other/sweep-1"),
        ("~/sweep-1", "/home/me/sweep-1"),
        ("run (1),b", "/data/run (1),b"),
    ],
)
def test_a_sweep_on_the_head_is_resumed_by_name_or_folder(name: str, folder: str) -> None:
    options = RayJob(address="http://127.0.0.1:8265", folder="/data")
    request = Request(name="sweep-2", arguments=["rerun=failed"], resume=name, uri="http://mlflow")
    lines = entrypoint(request, options).splitlines()
    assert lines == ["rerun=failed", lines[1], "tracking.uri=http://mlflow", *lines[-2:]]
    assert OverridesParser.create().parse_override(lines[1]).value() == folder
    lines = entrypoint(replace(request, keeps_uri=True), options).splitlines()
    assert lines == ["rerun=failed", lines[1], *lines[-2:]]


def test_problems_are_reported_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    assert OPTIONS.problems() == []
    problems = RayJob(address="head:8265", folder="sweeps", env=["NOWHERE"]).problems()
    assert [sentence.partition(":")[0] for sentence in problems] == [
        "cluster.address",
        "cluster.folder=sweeps",
        "cluster.env",
    ]


class Answering(http.server.BaseHTTPRequestHandler):
    """A job server that knows its version; to a job it answers as the class attribute `answer` says."""

    answer = 0
    """The status for a job; 0: the connection is closed instead."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asks_version = self.path == "/api/version"
        self._reply(200, {"version": "4", "ray_version": "2.60.0", "ray_commit": "x"} if asks_version else {})

    def do_PUT(self) -> None:
        self._reply(200, {})

    def do_POST(self) -> None:
        if self.answer:
            self._reply(self.answer, {})
        else:
            self.close_connection = True

    def _reply(self, status: int, content: dict[str, str]) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's own way
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (0, r"did not answer: .*; `ray job status sweep-1 --address .*` shows whether it accepted the job"),
        (504, r"did not answer: .*504.*; `ray job status sweep-1 --address .*` shows whether it accepted the job"),
        (400, r"did not accept the job: .*400"),
    ],
)
def test_a_job_that_the_server_may_have_taken_is_distinguished_from_one_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Answering, "answer", answer)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = replace(OPTIONS, address=f"http://127.0.0.1:{server.server_address[1]}")
        job = options.remote_job(Request(name="sweep-1", arguments=[]))
        with pytest.raises(SweepError, match=f"(?s){message}"):
            job.submit(Printed())
        server.shutdown()


def test_a_job_server_that_is_not_there_took_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (port,) = free_ports(1)
    job = replace(OPTIONS, address=f"http://127.0.0.1:{port}").remote_job(Request(name="sweep-1", arguments=[]))
    with pytest.raises(SweepError, match="did not accept the job"):
        job.submit(Printed())
