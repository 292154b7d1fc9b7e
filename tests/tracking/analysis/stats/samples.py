"""Step times of every kind, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

SECONDS = st.one_of(
    st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=60),
    st.lists(st.sampled_from([0.25, 0.5]), min_size=1, max_size=60),  # two values
    st.builds(lambda value, n: [value] * n, st.floats(1e-12, 1e12), st.integers(1, 60)),  # constant
    st.lists(st.floats(1e200, 1e300), min_size=1, max_size=20),
    st.lists(st.floats(1e-300, 1e-200), min_size=1, max_size=20),
)
