"""The nodes of an existing Ray cluster: what each offers, its warm fork server, and its joining and leaving."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.clusters.existing import node_agent
from sweeps.clusters.existing.answers import HeadError, answer
from sweeps.clusters.existing.autoscaler import ScalingRequest, bundles, lacking, needs
from sweeps.clusters.existing.head_state import Connection, NodeState, held, node
from sweeps.clusters.existing.head_watch import HeadWatch
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.machine import versions
from sweeps.machine.node import Node
from sweeps.plan import node_inputs
from sweeps.plan.node_inputs import Found, Wanted
from tracking.record import Trial

Warn = Callable[[str], None]
_LOOK_EVERY_S = 2.0
_ANSWER_S = 120.0
"""How long a node may take to unpack the sweep's code and report, or to warm a fork server, seconds."""
_MOST_FAILURES = 3
"""After so many failures in a row, a node gets no more trials."""


@dataclass(eq=False)
class _Member:
    """A node of the cluster, from the moment that Ray lists it."""

    state: NodeState
    agent: Any = None
    about: Mapping[str, Any] | None = None
    slot: Slot | None = None
    address: str = ""
    failures: int = 0
    requested_at: float = 0.0
    """When the last request to it was sent, by the monotonic clock."""

    @property
    def name(self) -> str:
        return self.state.name


class RayFleet(Fleet):
    """The nodes of the cluster that Ray is connected to; late joiners get trials as soon as they are warm."""

    look_every_s = _LOOK_EVERY_S
    revival = "reconnecting"

    def __init__(
        self,
        connection: Connection,
        wanted: Wanted,
        *,
        started_in: str | None = None,
        wait_s: float,
        start_s: float = 0.0,
        driver_core: bool,
        warn: Warn,
    ) -> None:
        """`wanted` is what the trials need of each node, `started_in` the folder that they run in where it exists.

        `wait_s` is how long to wait for a node or the head, `start_s` for nodes of an autoscaler, in seconds.
        """
        super().__init__([])
        self.wait_s, self._start_s = wait_s, start_s
        self._head = HeadWatch(connection, wait_s)
        self._request = ScalingRequest(connection.request)
        self._connection, self._wanted, self._started_in = connection, wanted, started_in
        self._keeps = 1 if driver_core else 0
        self._warn = warn
        self._versions = versions.here()
        self._members: dict[str, _Member] = {}
        self._pending: dict[Any, _Member] = {}
        self._begun = False
        self.may_grow = False
        """Whether there is an autoscaler that has not been sent a request, so that more nodes may come."""

    def query(self, trials: Sequence[Trial] = (), *, ask: bool = True) -> list[str]:
        """Query the nodes of the cluster, and return the problems that keep a sweep from running on them.

        An autoscaler gets a request for what these trials need, and this waits until every kind of trial has a node.
        With `ask` false, `may_grow` is set instead, and a warning names what would be requested. Raises DispatchError
        if the cluster is lost meanwhile.
        """
        with self._head.expected():
            return self._query(trials, ask)

    def _query(self, trials: Sequence[Trial], ask: bool) -> list[str]:
        self._query_new(self._head.nodes())
        self._await(_ANSWER_S)
        if trials:
            autoscaled: bool = answer(self._connection.autoscaled)
            if autoscaled and ask:
                self._grow(trials)
            self.may_grow = autoscaled and not ask
            if self.may_grow and (devices := lacking(needs(trials), self.nodes)):
                labels = ", ".join(dict.fromkeys(device.label for device in devices))
                self._warn(f"no node has {labels} yet: the sweep would request one from the cluster's autoscaler")
        silent = self._give_up_silent(0.0)
        reports = {member.name: member.about for member in self._members.values() if member.about}
        errors, warnings = versions.compare(
            self._versions, {name: about["versions"] for name, about in reports.items()}
        )
        for warning in warnings:
            self._warn(warning)
        errors += node_inputs.problems({name: Found(**about["inputs"]) for name, about in reports.items()})
        if not reports:
            detail = f": {', '.join(silent)} did not answer" if silent else ""
            errors.append(f"expected a cluster with a node that runs tasks{detail}.")
        return errors

    def _grow(self, trials: Sequence[Trial]) -> None:
        """Request what the trials need from the autoscaler, and wait until each fits a node, for `start_s` at most."""
        self.wait_s = max(self.wait_s, self._start_s)
        wanted = needs(trials)
        may_come = self._request.replace(bundles(wanted, self.nodes))
        until, announced = time.monotonic() + self._start_s, False
        while may_come and (devices := lacking(wanted, self.nodes)) and time.monotonic() < until:
            if not announced:
                labels = ", ".join(dict.fromkeys(device.label for device in devices))
                self._warn(f"waiting up to {self._start_s:g} s for the cluster's autoscaler to add nodes for {labels}")
                announced = True
            self._query_new(self._head.nodes())
            if (ref := self.inbox.next(1.0)) is not None:
                self.heard(ref)
            may_come = self._request.repeat()
        self._await(_ANSWER_S)  # more nodes may have come than the ones waited for

    def needs(self, trials: Iterable[Trial]) -> None:
        self._request.adjust(trials, self.nodes)

    def close(self) -> None:
        """Withdraw the request to the autoscaler."""
        if self._head.is_there():
            self._request.withdraw()

    def warm(self) -> None:
        """Start a fork server on every node."""
        self._begun = True
        with self._head.expected():
            for member in self._members.values():
                if member.about is not None and member.slot is None:
                    self._warm(member)

    @property
    def nodes(self) -> list[Node]:
        """The usable nodes, with their latest state."""
        return [self._node_of(member) for member in self._members.values() if member.about is not None]

    @property
    def waits_for_nodes(self) -> bool:
        return bool(self._pending)

    def heard(self, ref: Any) -> None:
        import ray

        member = self._pending.pop(ref, None)
        if member is None:  # it has meanwhile left the cluster
            return
        try:
            reply = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._failed(member, error)
            return
        if isinstance(reply, str):
            self._ready(member, reply)
        else:
            self._reported(member, reply)

    def look(self) -> None:
        if self.lost() is not None:
            return
        states = self._head.nodes()
        if self.lost() is not None:
            return
        for node_id in self._members.keys() - states.keys():
            member = self._members.pop(node_id)
            self._pending = {ref: other for ref, other in self._pending.items() if other is not member}
            self._drop(member)
            self._warn(f"{member.name} has left the cluster")
        for node_id, member in self._members.items():
            member.state = states[node_id]
            if member.slot is not None:
                member.slot.share(held(member.state, member.slot.used()), member.state.leaving)
        self._query_new(states)
        self._give_up_silent(_ANSWER_S)

    def lost(self) -> str | None:
        return self._head.lost

    def cut_off(self) -> bool:
        return self._head.cut_off()

    def revive(self) -> None:
        """Continue on the cluster that now answers at the address, whose nodes are all new."""
        for member in self._members.values():
            self._drop(member)
        self._members.clear()
        self._pending.clear()
        self._head.reopen()
        with contextlib.suppress(HeadError):  # the next look finds out
            self._request.repeat()
        self._query_new(self._head.nodes())

    def _give_up_silent(self, seconds: float) -> list[str]:
        """Give up the nodes that have not answered for that long, and return their names."""
        import ray

        now = time.monotonic()
        overdue = [ref for ref, member in self._pending.items() if now - member.requested_at >= seconds]
        # An answer that has arrived only waits to be read.
        _, silent = ray.wait(overdue, num_returns=len(overdue), timeout=0) if overdue else ([], [])
        members = [self._pending.pop(ref) for ref in silent]
        for member in members:
            self._give_up(member, "it does not answer")
        return [member.name for member in members]

    def suspect(self, slot: Slot) -> None:
        member = self._members.get(slot.node.node_id)
        if self._head.lost is None and member and member.slot is slot and member not in self._pending.values():
            self._warm(member)

    def _query_new(self, states: Mapping[str, NodeState]) -> None:
        """Ask new nodes for their reports."""
        for node_id, state in states.items():
            if node_id not in self._members:
                member = self._members[node_id] = _Member(state)
                if state.offers.get("CPU", 0) >= 1:
                    self._ask(member)

    def _ask(self, member: _Member) -> None:
        self._expect(member, self._agent(member).about.remote(self._wanted))

    def _warm(self, member: _Member) -> None:
        """Have the node start a fork server; it gets trials only once that listens."""
        if member.slot is None:
            offered = self._node_of(member)
            local = offered.node_id == self._connection.home
            member.slot = Slot(offered, lambda: member.address, local=local, keeps=self._keeps if local else 0)
            member.slot.share(held(member.state, Counter()), member.state.leaving)
            self.add(member.slot)
        member.slot.ready = False
        member.slot.gate = self._agent(member)
        self._expect(member, member.slot.gate.address.remote())

    def _expect(self, member: _Member, reply: Any) -> None:
        """Have `heard` called when the node answers."""
        member.requested_at = time.monotonic()
        self._pending[reply] = member
        self.inbox.expect(reply)

    def _agent(self, member: _Member) -> Any:
        if member.agent is None:
            member.agent = node_agent.start(member.state.node_id, self._started_in)
        return member.agent

    def _await(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._pending and (left_s := until - time.monotonic()) > 0:
            if (ref := self.inbox.next(left_s)) is not None:
                self.heard(ref)

    def _reported(self, member: _Member, about: Mapping[str, Any]) -> None:
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
        reason = next(filter(None, str(error).splitlines()), type(error).__name__)
        member.failures += 1
        if member.failures == _MOST_FAILURES:
            self._give_up(member, reason)
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

    def _node_of(self, member: _Member) -> Node:
        return node(member.state, member.about or {})
