"""Convolutional networks by name: `build`, `check`, `names`. Keras is imported when a net is built, not before."""

from nets.errors import BadArguments, NetError, UnknownNet
from nets.registry import arguments, build, check, names

__all__ = ["BadArguments", "NetError", "UnknownNet", "arguments", "build", "check", "names"]
