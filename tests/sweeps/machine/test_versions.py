from __future__ import annotations

import platform

from sweeps.machine import versions

HERE = {"python": "3.11.7", "tensorflow": "2.21.0", "keras": "3.15.1", "ray": "2.60.0", "numpy": "2.4.6"}


def test_this_process_has_versions() -> None:
    found = versions.here()
    assert found["python"] == platform.python_version()
    assert all(found.values())


def test_like_nodes_are_no_news() -> None:
    assert versions.compare(HERE, {"a": HERE, "b": HERE}) == ([], [])


def test_what_does_harm_is_an_error_and_the_rest_a_warning() -> None:
    nodes = {
        "a": HERE | {"tensorflow": "2.19.0", "numpy": "1.26.4"},
        "b": HERE | {"tensorflow": "2.19.0", "keras": None},
        "c": HERE | {"python": "3.11.9"},
        "d": HERE | {"python": "3.12.1"},
    }
    assert versions.compare(HERE, nodes) == (
        [
            "tensorflow: the driver has 2.21.0 and a, b has 2.19.0",
            "keras: the driver has 3.15.1 and b has none",
            "python: the driver has 3.11.7 and d has 3.12.1",
        ],
        ["numpy: the driver has 2.4.6 and a has 1.26.4", "python: the driver has 3.11.7 and c has 3.11.9"],
    )


def test_many_nodes_are_not_all_named() -> None:
    (error,), _ = versions.compare(HERE, {name: HERE | {"ray": "2.9.0"} for name in "abcdefg"})
    assert error == "ray: the driver has 2.60.0 and a, b, c and 4 more has 2.9.0"
