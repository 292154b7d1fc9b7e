"""Why a file of weights was not loaded."""

from __future__ import annotations


class WeightsError(ValueError):
    """Weights that were not loaded; the net is as it was.

    WeightsError
    ├── UnreadableWeights   no such file, of no known kind, damaged
    ├── UnsafeWeights       the file asks for more than its own numbers: code, other files, memory without end
    └── UnfitWeights        a layer or a shape is not the net's
    """


class UnreadableWeights(WeightsError):  # noqa: N818 - reads as what it says
    """No such file, of no known kind, or damaged."""


class UnsafeWeights(WeightsError):  # noqa: N818
    """The file asks for more than its own numbers: code, other files, memory without end."""


class UnfitWeights(WeightsError):  # noqa: N818
    """A layer or a shape is not the net's."""


def one_line(error: Exception) -> str:
    """The error's kind and text, of a length and on a line that fit into a sentence."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else f"{text[:300]}..."
