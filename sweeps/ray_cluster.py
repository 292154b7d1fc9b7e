"""The nodes of an existing Ray cluster: what they are, a warm fork server on each, and when they come and go."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweeps import cores, host, node_inputs, versions
from sweeps.devices import Node, limits
from sweeps.errors import DispatchError
from sweeps.fleet import Fleet, Slot
from sweeps.forkserver import LastingServer
from sweeps.node_inputs import Found, Wanted

Warn = Callable[[str], None]
_LOOK_EVERY_S = 2.0
_PROBE_S = 5.0
"""How long a head may take to accept a connection, seconds."""
_ANSWER_S = 120.0
"""How long a node may take to unpack the sweep's code and say what it is, or to warm a fork server, seconds."""
_MOST_FAILURES = 3
"""A node that has failed so often in a row gets no trials any more."""
_ACCELERATOR = "accelerator_type:"
_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


class Agent:
    """Lives on one node as a Ray actor: says what is there, and keeps its fork server, which ends with it."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the sweep was started; its trials run there, where this node has it."""
        self._server = LastingServer(None if folder is None else Path(folder))
        # Ray sets these for its own workers; a trial's threads and GPUs are set by its device.
        for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            os.environ.pop(name, None)

    def about(self, wanted: Wanted) -> dict[str, Any]:
        """The node's versions and cores, and what it has of what trials need."""
        about = {"versions": versions.here(), "cores": len(cores.available()), "facts": host.facts()}
        return about | {"inputs": asdict(node_inputs.look(wanted, self._server.address))}

    def address(self) -> str:
        """Where a fork server listens on this node, after waiting for it."""
        return self._server.address()


@dataclass(eq=False)
class _Member:
    """A node of the cluster, from the moment that Ray tells of it."""

    entry: Mapping[str, Any]
    agent: Any = None
    about: Mapping[str, Any] | None = None
    slot: Slot | None = None
    address: str = ""
    failures: int = 0
    asked_at: float = 0.0
    """When it was last asked something, by the monotonic clock."""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        ip, hostname = self.entry["NodeManagerAddress"], self.entry["NodeManagerHostname"]
        self.name = ip if hostname in ("", ip) else f"{ip} ({hostname})"


def no_answer(host_name: str, port: int) -> OSError | None:
    """Why nobody accepts a connection there; None: somebody does."""
    try:
        socket.create_connection((host_name, port), timeout=_PROBE_S).close()
    except OSError as error:
        return error
    return None


class RayFleet(Fleet):
    """The nodes of the cluster that Ray is connected to; late joiners get trials as soon as they are warm."""

    look_every_s = _LOOK_EVERY_S

    def __init__(
        self,
        home: str | None,
        head: tuple[str, int],
        wanted: Wanted,
        *,
        started_in: str | None = None,
        wait_s: float,
        driver_core: bool,
        warn: Warn,
    ) -> None:
        """`home` is the id of the node that the driver runs on, `head` where the cluster accepts connections.

        `wanted` is what the trials need of each node, `started_in` the folder that they run in where it is there.
        """
        super().__init__([])
        self.wait_s = wait_s
        self._home, self._head, self._wanted, self._started_in = home, head, wanted, started_in
        self._keeps = 1 if driver_core else 0
        self._warn = warn
        self._versions = versions.here()
        self._members: dict[str, _Member] = {}
        self._asked: dict[Any, _Member] = {}
        self._begun = False

    def meet(self) -> list[str]:
        """Get to know the nodes that are there now; what speaks against a sweep on them, in words."""
        import ray

        self._find(entry for entry in ray.nodes() if entry["Alive"])
        self._await(_ANSWER_S)
        silent = self._give_up_silent(0.0)
        known = {member.name: member.about for member in self._members.values() if member.about}
        errors, warnings = versions.compare(self._versions, {name: about["versions"] for name, about in known.items()})
        for warning in warnings:
            self._warn(warning)
        errors += node_inputs.problems({name: Found(**about["inputs"]) for name, about in known.items()})
        if not known:
            told = f": {', '.join(silent)} did not answer" if silent else ""
            errors.append(f"expected a cluster with a node that runs tasks{told}.")
        return errors

    def warm(self) -> None:
        """Start a fork server on every node."""
        self._begun = True
        for member in self._members.values():
            if member.about is not None and member.slot is None:
                self._warm(member)

    @property
    def nodes(self) -> list[Node]:
        """The nodes that can be used, as they are known now."""
        return [self._node(member) for member in self._members.values() if member.about is not None]

    @property
    def waits_for_nodes(self) -> bool:
        return bool(self._asked)

    def heard(self, ref: Any) -> None:
        import ray

        member = self._asked.pop(ref, None)
        if member is None:  # it has left the cluster meanwhile
            return
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._failed(member, error)
            return
        if isinstance(answer, str):
            self._ready(member, answer)
        else:
            self._met(member, answer)

    def look(self) -> None:
        import ray

        self._probe()
        entries = [entry for entry in ray.nodes() if entry["Alive"]]
        alive = {entry["NodeID"] for entry in entries}
        for node_id in self._members.keys() - alive:
            member = self._members.pop(node_id)
            self._asked = {ref: other for ref, other in self._asked.items() if other is not member}
            self._drop(member)
            self._warn(f"{member.name} has left the cluster")
        self._find(entries)
        self._give_up_silent(_ANSWER_S)

    def _give_up_silent(self, seconds: float) -> list[str]:
        """Give up the nodes that have been asked so long ago and have not answered; their names."""
        import ray

        now = time.monotonic()
        overdue = [ref for ref, member in self._asked.items() if now - member.asked_at >= seconds]
        # An answer that is there only waits to be heard.
        _, silent = ray.wait(overdue, num_returns=len(overdue), timeout=0) if overdue else ([], [])
        members = [self._asked.pop(ref) for ref in silent]
        for member in members:
            self._give_up(member, "it does not answer")
        return [member.name for member in members]

    def suspect(self, slot: Slot) -> None:
        member = self._members.get(slot.node.node_id)
        if member is not None and member.slot is slot and member not in self._asked.values():
            self._warm(member)

    def _probe(self) -> None:
        """Wait for the head, since everything else asks it and would hang. Raises DispatchError after `wait_s`."""
        seen = time.monotonic()
        while (error := no_answer(*self._head)) is not None:
            if time.monotonic() - seen >= self.wait_s:
                where = f"{self._head[0]}:{self._head[1]}"
                words = f"the head of the Ray cluster at {where} is lost ({error}), for {self.wait_s:g} s"
                raise DispatchError(f"{words}. resume=latest runs the rest on a new cluster")
            time.sleep(min(1.0, self.wait_s))

    def _find(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Ask those of the nodes that are not known yet what they are."""
        for entry in entries:
            if entry["NodeID"] not in self._members:
                member = self._members[entry["NodeID"]] = _Member(entry)
                if entry["Resources"].get("CPU", 0) >= 1:
                    self._ask(member)

    def _ask(self, member: _Member) -> None:
        self._expect(member, self._agent(member).about.remote(self._wanted))

    def _warm(self, member: _Member) -> None:
        """Have a fork server started; only then the node gets trials."""
        if member.slot is None:
            node = self._node(member)
            local = node.node_id == self._home
            member.slot = Slot(node, lambda: member.address, local=local, keeps=self._keeps if local else 0)
            self.add(member.slot)
        member.slot.ready = False
        self._expect(member, self._agent(member).address.remote())

    def _expect(self, member: _Member, answer: Any) -> None:
        """Have `heard` called when the node has answered."""
        member.asked_at = time.monotonic()
        self._asked[answer] = member
        self.inbox.expect(answer)

    def _agent(self, member: _Member) -> Any:
        if member.agent is None:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = NodeAffinitySchedulingStrategy(member.entry["NodeID"], soft=False)
            member.agent = ray.remote(Agent).options(num_cpus=0, scheduling_strategy=here).remote(self._started_in)
        return member.agent

    def _await(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._asked and (left_s := until - time.monotonic()) > 0:
            if (ref := self.inbox.next(left_s)) is not None:
                self.heard(ref)

    def _met(self, member: _Member, about: Mapping[str, Any]) -> None:
        member.about = about
        if not self._begun:
            return
        errors, warnings = versions.compare(self._versions, {member.name: about["versions"]})
        errors += node_inputs.of_late_joiner(member.name, Found(**about["inputs"]), self._known_inputs(member))
        for warning in warnings:
            self._warn(warning)
        if errors:
            self._give_up(member, "; ".join(errors))
        else:
            self._warm(member)

    def _known_inputs(self, apart_from: _Member) -> dict[str, Found]:
        members = [member for member in self._members.values() if member is not apart_from and member.about]
        return {member.name: Found(**member.about["inputs"]) for member in members if member.about}

    def _ready(self, member: _Member, address: str) -> None:
        member.address, member.failures = address, 0
        if member.slot is not None:
            member.slot.ready = True

    def _failed(self, member: _Member, error: Exception) -> None:
        member.agent = None
        words = next(filter(None, str(error).splitlines()), type(error).__name__)
        member.failures += 1
        if member.failures == _MOST_FAILURES:
            self._give_up(member, words)
        else:
            (self._ask if member.about is None else self._warm)(member)

    def _give_up(self, member: _Member, why: str) -> None:
        self._drop(member)
        member.about = None
        self._warn(f"{member.name} gets no trials: {why}")

    def _drop(self, member: _Member) -> None:
        if member.slot is not None:
            self.remove(member.slot)
            member.slot.ready = False
            member.slot = None

    def _node(self, member: _Member) -> Node:
        entry, about = member.entry, member.about or {}
        resources = dict(entry["Resources"])
        accelerators = [name.removeprefix(_ACCELERATOR) for name in resources if name.startswith(_ACCELERATOR)]
        labels = {name: value for name, value in entry["Labels"].items() if not name.startswith("ray.io/node-id")}
        return Node(
            cpus=min(int(resources.get("CPU", 0)), about.get("cores", 0)),
            gpus=int(resources.get("GPU", 0)),
            resources={
                name: amount
                for name, amount in resources.items()
                if name not in _RAYS_OWN and not name.startswith((_ACCELERATOR, "node:"))
            },
            accelerator=accelerators[0] if accelerators else None,
            labels=labels,
            name=member.name,
            node_id=entry["NodeID"],
            **(limits(about["facts"]) if about else {}),
            facts={
                "hostname": entry["NodeManagerHostname"],
                "node_id": entry["NodeID"],
                "node_ip": entry["NodeManagerAddress"],
            },
        )
