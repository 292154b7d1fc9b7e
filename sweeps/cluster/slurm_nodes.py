"""What the batch script of `sweeps.cluster.slurm` asks on the nodes of its job; run as a script there.

usage: slurm_nodes.py address [INTERFACE]           this node's address and two free ports, on one line
       slurm_nodes.py wait ADDRESS COUNT SECONDS    until COUNT nodes have joined Ray, at most SECONDS
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time


def address(interface: str = "") -> str:
    """This node's IPv4 address on the interface, or as others see it. Raises ValueError for an unknown interface."""
    if interface:
        import psutil

        known = psutil.net_if_addrs()
        for found in known.get(interface, ()):
            if found.family == socket.AF_INET:
                return str(found.address)
        raise ValueError(f"cluster.interface={interface}: expected one of {', '.join(sorted(known))} with an address.")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing: the system only says which address it would use
        return str(probe.getsockname()[0])
    return socket.gethostbyname(socket.gethostname())


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def wait(ray_address: str, count: int, seconds: float) -> int:
    """Wait for the nodes and give how many have come. Raises ConnectionError where not even the first has."""
    deadline = time.monotonic() + seconds
    host, _, port = ray_address.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConnectionError(f"Ray did not start at {ray_address} within {seconds:g} s: {error}") from error
        time.sleep(0.5)
    import logging

    import ray

    ray.init(ray_address, logging_level=logging.ERROR, log_to_driver=False)
    while (alive := sum(1 for node in ray.nodes() if node["Alive"])) < count and time.monotonic() < deadline:
        time.sleep(0.5)
    ray.shutdown()
    return alive


def main(arguments: list[str]) -> int:
    out = sys.stdout
    if arguments[0] == "address":
        out.write(" ".join(map(str, [address(*arguments[1:]), *free_ports(2)])) + "\n")
        return 0
    ray_address, count, seconds = arguments[1], int(arguments[2]), float(arguments[3])
    alive = wait(ray_address, count, seconds)
    if alive < count:
        out.write(f"warning: {alive} of {count} nodes joined within {seconds:g} s; the sweep goes on with these\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, ConnectionError) as error:
        sys.exit(f"error: {error}")
