"""Requests to a Ray cluster's head, and what it means when no answer comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sweeps.errors import DispatchError

T = TypeVar("T")
_ANOTHER_CLUSTER = "WrongClusterID"
"""Part of Ray's message when the head is not the one that its client first connected to."""


class HeadError(DispatchError):
    """The head gave no answer."""


class HeadReplacedError(HeadError):
    """Another cluster now answers at the head's address."""


class HeadLostError(HeadError):
    """The head does not answer."""


def answer(request: Callable[[], T]) -> T:
    """Return the head's answer. Raises HeadReplacedError or HeadLostError if none comes."""
    import ray

    try:
        return request()
    except (ray.exceptions.RayError, ConnectionError) as error:
        if _ANOTHER_CLUSTER in str(error):
            raise HeadReplacedError("the head of the Ray cluster was started again as a new cluster") from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise HeadLostError(f"the head of the Ray cluster does not answer: {reason}") from error
