from __future__ import annotations

from collections import Counter

from sweeps.clusters.existing.head_state import NodeState, held, node


def state(offers: dict[str, float], free: dict[str, float]) -> NodeState:
    return NodeState(node_id="a", address="10.0.0.2", hostname="n2", offers=offers, free=free, labels={}, leaving=False)


def test_others_hold_what_is_neither_free_nor_the_sweeps() -> None:
    offers = {"CPU": 8.0, "GPU": 2.0, "disk": 1.0, "memory": 1e9, "node:10.0.0.2": 1.0, "accelerator_type:H100": 1.0}
    free = {"CPU": 3.0, "GPU": 1.0, "disk": 0.7, "node:10.0.0.2": 0.5, "accelerator_type:H100": 0.9}
    others = held(state(offers, free), Counter({"CPU": 4, "GPU": 1, "disk": 0.1}))  # type: ignore[dict-item]
    assert (others.cpus, others.gpus) == (1.0, 0.0)
    assert others.resources.keys() == {"disk"}
    assert others.resources["disk"] == 1.0 - 0.7 - 0.1


def test_what_the_head_does_not_know_yet_is_not_held_by_others() -> None:
    assert not held(state({"CPU": 8.0, "disk": 0.3}, {"CPU": 8.0, "disk": 0.1}), Counter({"CPU": 2, "disk": 0.2}))  # type: ignore[dict-item]


def test_what_a_job_has_set_aside_for_itself_is_held_and_no_resource_of_the_node() -> None:
    """A placement group of two CPUs, as Ray 2.60 shows it."""
    group = "e5f0a1b2" * 4 + "01000000"
    offers = {"CPU": 8.0, "disk": 1.0, f"CPU_group_{group}": 2.0, f"CPU_group_0_{group}": 2.0}
    offers |= {f"bundle_group_{group}": 1000.0, f"bundle_group_0_{group}": 1000.0}
    seen = state(offers, {**offers, "CPU": 6.0, f"bundle_group_{group}": 999.0})
    assert held(seen, Counter()).cpus == 2.0
    assert not held(seen, Counter()).resources
    assert node(seen, {}).resources == {"disk": 1.0}
