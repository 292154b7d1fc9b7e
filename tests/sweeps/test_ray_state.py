from __future__ import annotations

from collections import Counter

from sweeps.ray_state import NodeState, held


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
