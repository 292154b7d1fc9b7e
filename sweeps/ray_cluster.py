"""The nodes of an existing Ray cluster: what they are, a warm fork server on each, and when they come and go."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps import cores, host, paths, versions
from sweeps.devices import Node
from sweeps.errors import DispatchError, UsageError
from sweeps.fleet import Fleet, Slot
from sweeps.forkserver import LastingServer
from sweeps.ray_answers import HeadLostError, HeadReplacedError, answer
from sweeps.ray_autoscaler import Wishes, bundles, lacking
from sweeps.ray_gate import Gate
from sweeps.ray_state import Connection, NodeState, held, no_answer, node
from tracking.record import Trial

Warn = Callable[[str], None]
_LOOK_EVERY_S = 2.0
_ANSWER_S = 120.0
"""How long a node may take to unpack the sweep's code and say what it is, or to warm a fork server, seconds."""
_MOST_FAILURES = 3
"""A node that has failed so often in a row gets no trials any more."""
_GO_ON = "resume=latest runs the rest on a new cluster"
_CALLS_AT_ONCE = 4
"""To an agent: whoever waits for its fork server holds up no trial that asks whether it may start."""


class Agent(Gate):
    """Lives on one node as a Ray actor: says what is there, and keeps its fork server, which ends with it."""

    def __init__(self) -> None:
        super().__init__()
        self._server = LastingServer()
        # Ray sets these for its own workers; a trial's threads and GPUs are set by its device.
        for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            os.environ.pop(name, None)

    def about(self, files: list[str]) -> dict[str, Any]:
        """The node's versions and cores, and which of the files it has not."""
        missing = [path for path in files if paths.not_readable(path) is not None]
        facts = host.facts()
        return {"versions": versions.here(), "cores": len(cores.available()), "missing": missing, "facts": facts}

    def address(self) -> str:
        """Where a fork server listens on this node, after waiting for it."""
        return self._server.address()


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
        files: Iterable[str],
        *,
        wait_s: float,
        start_s: float = 0.0,
        driver_core: bool,
        warn: Warn,
    ) -> None:
        super().__init__([])
        self.wait_s, self._head_s, self._start_s = wait_s, wait_s, start_s
        self._wishes = Wishes(connection.request)
        self._connection, self._files = connection, sorted(set(files))
        self._keeps = 1 if driver_core else 0
        self._warn = warn
        self._versions = versions.here()
        self._members: dict[str, _Member] = {}
        self._asked: dict[Any, _Member] = {}
        self._begun = False
        self._lost: str | None = None

    def meet(self, trials: Sequence[Trial] = ()) -> list[str]:
        """Get to know the nodes that are there; what speaks against a sweep on them, in words.

        An autoscaler is asked for what these trials need, and waited for until there is a node for each kind of them.
        """
        self._find(self._nodes())
        self._await(_ANSWER_S)
        if trials:
            autoscaled: bool = answer(self._connection.autoscaled)
            if autoscaled:
                self._grow(trials)
        silent = self._give_up_silent(0.0)
        known = {member.name: member.about for member in self._members.values() if member.about}
        errors, warnings = versions.compare(self._versions, {name: about["versions"] for name, about in known.items()})
        for warning in warnings:
            self._warn(warning)
        for name, about in known.items():
            errors += [f"{path}: expected a file on every node. {name} has none there." for path in about["missing"]]
        if not known:
            told = f": {', '.join(silent)} did not answer" if silent else ""
            errors.append(f"expected a cluster with a node that runs tasks{told}.")
        return errors

    def _grow(self, trials: Sequence[Trial]) -> None:
        """Ask the autoscaler for what the trials need, and wait until each fits a node, for `start_s` at most."""
        self.wait_s = max(self.wait_s, self._start_s)
        may_come = self._wishes.replace(bundles(trials, self.nodes))
        until, announced = time.monotonic() + self._start_s, False
        while may_come and (devices := lacking(trials, self.nodes)) and time.monotonic() < until:
            if not announced:
                labels = ", ".join(dict.fromkeys(device.label for device in devices))
                self._warn(f"waiting {self._start_s:g} s at most for nodes of the cluster's autoscaler, for {labels}")
                announced = True
            self._find(self._nodes())
            if (ref := self.inbox.next(1.0)) is not None:
                self.heard(ref)
            may_come = self._wishes.repeat()

    def needs(self, trials: Iterable[Trial]) -> None:
        self._wishes.reduce(trials, self.nodes)

    def close(self) -> None:
        """Give back what the autoscaler was asked for."""
        if self._lost is None and no_answer(*self._connection.endpoint) is None:
            self._wishes.withdraw()

    def warm(self) -> None:
        """Start a fork server on every node."""
        self._begun = True
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
        states = self._nodes()
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
        return self._lost

    def revive(self) -> None:
        """Go on with the cluster that is there now, whose nodes are all new."""
        for member in self._members.values():
            self._drop(member)
        self._members.clear()
        self._asked.clear()
        until = time.monotonic() + self._head_s
        while True:
            try:
                self._connection.reopen()
                break
            except UsageError as error:
                if time.monotonic() >= until:
                    raise DispatchError(f"{self._lost}. {error} {_GO_ON}") from error
                time.sleep(min(1.0, self._head_s))
        self._lost = None
        self._wishes.repeat()
        self._find(self._nodes())

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
        if self._lost is None and member and member.slot is slot and member not in self._asked.values():
            self._warm(member)

    def _nodes(self) -> dict[str, NodeState]:
        """The nodes that are alive; none where the cluster is `lost`.

        Nothing else is asked before the head has answered, since it would hang. Raises DispatchError when there has
        been no head for `wait_s`.
        """
        seen = time.monotonic()
        host_name, port = self._connection.endpoint
        while True:
            error: Exception | None = no_answer(host_name, port)
            if error is None:
                try:
                    states = answer(self._connection.nodes)
                    break
                except HeadReplacedError:
                    self._lost = f"the head of the Ray cluster at {host_name}:{port} was started again as a new cluster"
                    return {}
                except HeadLostError as lost:
                    error = lost
            if time.monotonic() - seen >= self._head_s:
                words = f"the head of the Ray cluster at {host_name}:{port} is lost ({error}), for {self._head_s:g} s"
                raise DispatchError(f"{words}. {_GO_ON}")
            time.sleep(min(1.0, self._head_s))
        if self._connection.home is not None and self._connection.home not in states:
            self._lost = "the Ray node of the driver's machine has ended"
        return states

    def _find(self, states: Mapping[str, NodeState]) -> None:
        """Ask the nodes not known yet what they are."""
        for node_id, state in states.items():
            if node_id not in self._members:
                member = self._members[node_id] = _Member(state)
                if state.offers.get("CPU", 0) >= 1:
                    self._ask(member)

    def _ask(self, member: _Member) -> None:
        self._expect(member, self._agent(member).about.remote(self._files))

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
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = NodeAffinitySchedulingStrategy(member.state.node_id, soft=False)
            options = {"num_cpus": 0, "scheduling_strategy": here, "max_concurrency": _CALLS_AT_ONCE}
            member.agent = ray.remote(Agent).options(**options).remote()
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
        errors += [f"{path} is not there" for path in about["missing"]]
        for warning in warnings:
            self._warn(warning)
        if errors:
            self._give_up(member, "; ".join(errors))
        else:
            self._warm(member)

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
