"""The nodes of an existing Ray cluster: what they are, a warm fork server on each, and when they come and go."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.clusters.existing import node_agent
from sweeps.clusters.existing.answers import HeadError, answer
from sweeps.clusters.existing.autoscaler import Wishes, bundles, lacking, needs
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
"""How long a node may take to unpack the sweep's code and say what it is, or to warm a fork server, seconds."""
_MOST_FAILURES = 3
"""A node that has failed so often in a row gets no trials any more."""


@dataclass(eq=False)
class _Member:
    """A node of the cluster, from the moment that Ray tells of it."""

    state: NodeState
    agent: Any = None
    about: Mapping[str, Any] | None = None
    slot: Slot | None = None
    address: str = ""
    failures: int = 0
    asked_at: float = 0.0
    """When it was last asked something, by the monotonic clock."""

    @property
    def name(self) -> str:
        return self.state.name


class RayFleet(Fleet):
    """The nodes of the cluster that Ray is connected to; late joiners get trials as soon as they are warm."""

    look_every_s = _LOOK_EVERY_S
    revival = "connecting anew"

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
        """`wanted` is what the trials need of each node, `started_in` the folder that they run in where it is there.

        `wait_s` is how long to wait for a node or for the head, `start_s` for what an autoscaler is asked for.
        """
        super().__init__([])
        self.wait_s, self._start_s = wait_s, start_s
        self._head = HeadWatch(connection, wait_s)
        self._wishes = Wishes(connection.request)
        self._connection, self._wanted, self._started_in = connection, wanted, started_in
        self._keeps = 1 if driver_core else 0
        self._warn = warn
        self._versions = versions.here()
        self._members: dict[str, _Member] = {}
        self._asked: dict[Any, _Member] = {}
        self._begun = False
        self.may_grow = False
        """Whether nodes may come that the autoscaler was not asked for."""

    def meet(self, trials: Sequence[Trial] = (), *, ask: bool = True) -> list[str]:
        """Get to know the nodes that are there; what speaks against a sweep on them, in words.

        An autoscaler is asked for what these trials need, and waited for until there is a node for each kind of them;
        not with `ask` false: then `may_grow` says that there is one, and what it would be asked for is a warning.
        Raises DispatchError where the cluster is lost meanwhile.
        """
        with self._head.expected():
            return self._meet(trials, ask)

    def _meet(self, trials: Sequence[Trial], ask: bool) -> list[str]:
        self._find(self._head.nodes())
        self._await(_ANSWER_S)
        if trials:
            autoscaled: bool = answer(self._connection.autoscaled)
            if autoscaled and ask:
                self._grow(trials)
            self.may_grow = autoscaled and not ask
            if self.may_grow and (devices := lacking(needs(trials), self.nodes)):
                labels = ", ".join(dict.fromkeys(device.label for device in devices))
                self._warn(f"no node has {labels} yet: the sweep would ask the cluster's autoscaler for one")
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

    def _grow(self, trials: Sequence[Trial]) -> None:
        """Ask the autoscaler for what the trials need, and wait until each fits a node, for `start_s` at most."""
        self.wait_s = max(self.wait_s, self._start_s)
        wanted = needs(trials)
        may_come = self._wishes.replace(bundles(wanted, self.nodes))
        until, announced = time.monotonic() + self._start_s, False
        while may_come and (devices := lacking(wanted, self.nodes)) and time.monotonic() < until:
            if not announced:
                labels = ", ".join(dict.fromkeys(device.label for device in devices))
                self._warn(f"waiting {self._start_s:g} s at most for nodes of the cluster's autoscaler, for {labels}")
                announced = True
            self._find(self._head.nodes())
            if (ref := self.inbox.next(1.0)) is not None:
                self.heard(ref)
            may_come = self._wishes.repeat()
        self._await(_ANSWER_S)  # more may have come than the one that was waited for

    def needs(self, trials: Iterable[Trial]) -> None:
        self._wishes.adjust(trials, self.nodes)

    def close(self) -> None:
        """Give back what the autoscaler was asked for."""
        if self._head.is_there():
            self._wishes.withdraw()

    def warm(self) -> None:
        """Start a fork server on every node."""
        self._begun = True
        with self._head.expected():
            for member in self._members.values():
                if member.about is not None and member.slot is None:
                    self._warm(member)

    @property
    def nodes(self) -> list[Node]:
        """The nodes that can be used, as they are known now."""
        return [self._node_of(member) for member in self._members.values() if member.about is not None]

    @property
    def waits_for_nodes(self) -> bool:
        return bool(self._asked)

    def heard(self, ref: Any) -> None:
        import ray

        member = self._asked.pop(ref, None)
        if member is None:  # it has left the cluster meanwhile
            return
        try:
            reply = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._failed(member, error)
            return
        if isinstance(reply, str):
            self._ready(member, reply)
        else:
            self._met(member, reply)

    def look(self) -> None:
        if self.lost() is not None:
            return
        states = self._head.nodes()
        if self.lost() is not None:
            return
        for node_id in self._members.keys() - states.keys():
            member = self._members.pop(node_id)
            self._asked = {ref: other for ref, other in self._asked.items() if other is not member}
            self._drop(member)
            self._warn(f"{member.name} has left the cluster")
        for node_id, member in self._members.items():
            member.state = states[node_id]
            if member.slot is not None:
                member.slot.share(held(member.state, member.slot.used()), member.state.leaving)
        self._find(states)
        self._give_up_silent(_ANSWER_S)

    def lost(self) -> str | None:
        return self._head.lost

    def cut_off(self) -> bool:
        return self._head.cut_off()

    def revive(self) -> None:
        """Go on with the cluster that is there now, whose nodes are all new."""
        for member in self._members.values():
            self._drop(member)
        self._members.clear()
        self._asked.clear()
        self._head.reopen()
        with contextlib.suppress(HeadError):  # the next look finds out
            self._wishes.repeat()
        self._find(self._head.nodes())

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
        if self._head.lost is None and member and member.slot is slot and member not in self._asked.values():
            self._warm(member)

    def _find(self, states: Mapping[str, NodeState]) -> None:
        """Ask the nodes not known yet what they are."""
        for node_id, state in states.items():
            if node_id not in self._members:
                member = self._members[node_id] = _Member(state)
                if state.offers.get("CPU", 0) >= 1:
                    self._ask(member)

    def _ask(self, member: _Member) -> None:
        self._expect(member, self._agent(member).about.remote(self._wanted))

    def _warm(self, member: _Member) -> None:
        """Have a fork server started; only then the node gets trials."""
        if member.slot is None:
            there = self._node_of(member)
            local = there.node_id == self._connection.home
            member.slot = Slot(there, lambda: member.address, local=local, keeps=self._keeps if local else 0)
            member.slot.share(held(member.state, Counter()), member.state.leaving)
            self.add(member.slot)
        member.slot.ready = False
        member.slot.gate = self._agent(member)
        self._expect(member, member.slot.gate.address.remote())

    def _expect(self, member: _Member, reply: Any) -> None:
        """Have `heard` called when the node has answered."""
        member.asked_at = time.monotonic()
        self._asked[reply] = member
        self.inbox.expect(reply)

    def _agent(self, member: _Member) -> Any:
        if member.agent is None:
            member.agent = node_agent.start(member.state.node_id, self._started_in)
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

    def _node_of(self, member: _Member) -> Node:
        return node(member.state, member.about or {})
