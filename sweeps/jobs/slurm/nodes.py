"""Addresses, ports and waiting for Ray: a script that the batch script runs on the nodes of its job.

usage: nodes.py address [INTERFACE]           print this node's address and two free ports on one line
       nodes.py reach ADDRESS SECONDS         wait until something listens at ADDRESS, at most SECONDS
       nodes.py wait ADDRESS COUNT SECONDS LOG OFFSET
           wait until COUNT nodes have joined Ray or ended, at most SECONDS; LOG has their output from OFFSET on
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_LABELLED = re.compile(r" *(\d+): ?(.*)")
_ENDED = re.compile(r"Ray ended on (\S+), exit code (\d+)")
_STEP_ENDED = re.compile(r"The job step ended, exit code \d+")
_DECORATION = re.compile(r"\x1b\[[\d;]*m")
_BOILERPLATE = re.compile(r"\[\S+ \S+ [CEF] \d+ \d+\] \(\w+\) \S+:\d+:.*?Check failed: ")
"""What precedes the reason why one of Ray's processes gave up."""
_NOISE = re.compile(
    r"srun: error: \S+: tasks? [\d,-]+: (Exited|Terminated|Killed)|slurmstepd\S*: error: \*\*\* STEP"
    r"|srun: cluster configuration lacks|\S+ \S+\s+(INFO|SUCC) "
)
"""Lines that report progress, not causes."""
_CAUSES = (
    re.compile(r"(?!SystemExit)[\w.]*(?:Error|Exception)\b(: .*)?$|\S*command not found|.*: error: unrecognized"),
    re.compile(
        r"(?i).*(no such file|not found|permission denied|already in use|no space left|out of memory|cannot |could not"
        r"|unable to|mismatch|version `|fatal|killed|refused|srun: error|srun: .*temporarily disabled)"
    ),
    re.compile(r"(?i).*\b(error|failed|failure|exited unexpectedly)\b"),
    re.compile(r".*\S"),
)
"""Kinds of lines that may give the reason why Ray did not start, the most specific first."""
_LONGEST = 300


def address(interface: str = "") -> str:
    """Return this node's IPv4 address, on `interface` if given. Raises ValueError for an unknown interface."""
    if interface:
        import psutil

        interfaces = psutil.net_if_addrs()
        for each in interfaces.get(interface, ()):
            if each.family == socket.AF_INET:
                return str(each.address)
        names = ", ".join(sorted(interfaces))
        raise ValueError(f"cluster.interface={interface}: expected one of {names} with an address.")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing, but makes the system choose an address
        return str(probe.getsockname()[0])
    return socket.gethostbyname(socket.gethostname())


def free_ports(count: int) -> list[int]:
    """Return that many distinct ports that are free at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def reach(ray_address: str, seconds: float) -> None:
    """Wait until something listens at the address. Raises ConnectionError if nothing does in time."""
    deadline = time.monotonic() + seconds
    while error := _refusal(ray_address):
        if time.monotonic() > deadline:
            hint = "cluster.interface chooses another network"
            raise ConnectionError(
                f"Ray's head at {ray_address} could not be reached within {seconds:g} s ({error}); {hint}"
            )
        time.sleep(0.5)


class Step:
    """The job step that runs Ray on the nodes, according to its log, in which this start begins at `offset`."""

    def __init__(self, log: Path, offset: int) -> None:
        self.log, self.offset = log, offset
        self._lines: dict[int | None, list[str]] = {}
        self.ended: dict[int, tuple[str, str]] = {}
        """For each node whose Ray has ended, by number: its name, and why."""
        self.over: str | None = None
        """Why the whole step has ended; None: it runs."""

    def read(self) -> None:
        """Read what has been written since the start."""
        try:
            with self.log.open("rb") as file:
                file.seek(self.offset)
                text = file.read().decode(errors="replace")
        except OSError:
            return
        self._lines, self.ended = {}, {}
        for line in text.splitlines():
            label = _LABELLED.fullmatch(line)
            number, message = (int(label[1]), label[2]) if label else (None, line)
            if match := _ENDED.fullmatch(message):
                assert number is not None
                self.ended[number] = (match[1], cause(self._lines.get(number, [])) or f"exit code {match[2]}")
            elif _STEP_ENDED.fullmatch(message):
                self.over = cause(self._lines.get(None, [])) or message
            else:
                self._lines.setdefault(number, []).append(message)

    def hint(self) -> str:
        """Return the reason that Slurm itself has logged; empty: none."""
        return cause(self._lines.get(None, []))


def cause(lines: Sequence[str]) -> str:
    """Return the line that best explains the failure, shortened; empty: there is none."""
    plain = [_DECORATION.sub("", line).strip() for line in lines]
    telling = [line for line in plain if line and not _NOISE.match(line)]
    for kind in _CAUSES:
        if picked := [number for number, line in enumerate(telling) if kind.match(line)]:
            line = telling[picked[-1]]
            if line.endswith(":"):
                line = " ".join([line, *telling[picked[-1] + 1 :][:1]])
            return _BOILERPLATE.sub("", line)[:_LONGEST]
    return ""


def wait(ray_address: str, count: int, seconds: float, step: Step) -> list[str]:
    """Wait for the nodes of the step, and return a warning for each that does not join.

    Raises ConnectionError with the cause as soon as it is clear that the first node will not.
    """
    deadline = time.monotonic() + seconds
    while refusal := _refusal(ray_address):
        step.read()
        if 0 in step.ended:
            name, why = step.ended[0]
            raise ConnectionError(f"Ray did not start on {name}, the job's first node: {why}")
        if step.over is not None:
            raise ConnectionError(f"Ray did not start: {step.over}")
        if time.monotonic() > deadline:
            hint = step.hint() or refusal
            raise ConnectionError(f"Ray did not start at {ray_address} within {seconds:g} s: {hint}")
        time.sleep(0.5)
    import logging

    import ray

    # Another program may listen at the address, and Ray waits long for an answer.
    threading.Thread(target=_end_without_head, args=[step], daemon=True).start()
    try:
        ray.init(ray_address, logging_level=logging.ERROR, log_to_driver=False)
    except (RuntimeError, ConnectionError, OSError) as error:
        raise ConnectionError(f"Ray did not start at {ray_address}: {cause(str(error).splitlines())}") from error
    try:
        while True:
            step.read()
            alive = sum(1 for node in ray.nodes() if node["Alive"])
            missing = count - alive - len(step.ended)
            if missing <= 0 or time.monotonic() > deadline:
                break
            time.sleep(0.5)
    finally:
        ray.shutdown()
    warnings = [
        f"Ray did not start on {name}; the sweep continues without it: {why}" for name, why in step.ended.values()
    ]
    if missing > 0:
        late = f"{missing} of {count} nodes have not joined within {seconds:g} s; the sweep continues without them"
        warnings.append(f"{late}: {hint}" if (hint := step.hint()) else late)
    return warnings


def _end_without_head(step: Step) -> None:
    """End this process, with the cause, as soon as the first node's Ray has ended."""
    watched = Step(step.log, step.offset)
    while 0 not in watched.ended:
        time.sleep(0.5)
        watched.read()
    name, why = watched.ended[0]
    sys.stderr.write(f"error: Ray did not start on {name}, the job's first node: {why}\n")
    sys.stderr.flush()
    os._exit(1)


def _refusal(ray_address: str) -> str:
    """Return why nothing answers at this address; empty: something does."""
    host, _, port = ray_address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        return str(error)
    return ""


def main(arguments: list[str]) -> int:
    out = sys.stdout
    if arguments[0] == "address":
        out.write(" ".join(map(str, [address(*arguments[1:]), *free_ports(2)])) + "\n")
    elif arguments[0] == "reach":
        reach(arguments[1], float(arguments[2]))
    else:
        ray_address, count, seconds, log, offset = arguments[1:]
        for warning in wait(ray_address, int(count), float(seconds), Step(Path(log), int(offset))):
            out.write(f"warning: {warning}\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, ConnectionError, ImportError) as error:
        sys.exit(f"error: {error}")
