"""Answers of a Ray cluster's head, or what it means that there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sweeps.errors import DispatchError

T = TypeVar("T")
_ANOTHER_CLUSTER = "WrongClusterID"
"""What Ray's error says when the head is not the one that its client once met."""


class HeadError(DispatchError):
    """The head has given no answer."""


class HeadReplacedError(HeadError):
    """Another cluster than before answers under the head's address."""


class HeadLostError(HeadError):
    """The head does not answer."""


def answer(question: Callable[[], T]) -> T:
    """Return the head's answer. Raises HeadReplacedError or HeadLostError where there is none."""
    import ray

    try:
        return question()
    except (ray.exceptions.RayError, ConnectionError) as error:
        if _ANOTHER_CLUSTER in str(error):
            raise HeadReplacedError("the head of the Ray cluster was started again as a new cluster") from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise HeadLostError(f"the head of the Ray cluster does not answer: {reason}") from error
