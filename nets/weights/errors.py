"""Why a file of weights was not loaded."""

from __future__ import annotations

from nets.errors import cause


class WeightsError(ValueError):
    """The weights were not loaded; the net is unchanged.

    WeightsError
    ├── UnreadableWeights   the file is missing, of an unknown kind, or damaged
    ├── UnsafeWeights       the file contains more than numbers: code, references to other files, endless memory
    └── UnfitWeights        a layer or a shape does not match the net's
    """


class UnreadableWeights(WeightsError):  # noqa: N818 - reads as what it says
    """The file is missing, of an unknown kind, or damaged."""


class UnsafeWeights(WeightsError):  # noqa: N818
    """The file contains more than numbers: code, references to other files, endless memory."""


class UnfitWeights(WeightsError):  # noqa: N818
    """A layer or a shape does not match the net's."""


def one_line(error: Exception) -> str:
    """Return the error's kind and text on one line, short enough for a sentence."""
    said = str(error)
    if said != (quoted := cause(error)) and quoted not in said.splitlines()[:1]:
        said = quoted
    text = " ".join(f"{type(error).__name__}: {said}".split())
    return text if len(text) <= 300 else f"{text[:300]}..."
