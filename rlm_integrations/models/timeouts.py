"""Timeouts that let LiteLLM keep its connections. Imports httpx: import it once LiteLLM is loaded.

LiteLLM keeps one client, so one pool of connections, for each timeout as it prints; and what is left of a budget is
never the same twice, so that each call would open a new connection.
"""

from __future__ import annotations

import math

import httpx

__all__ = ["for_provider"]

# Where LiteLLM hands on an httpx.Timeout; to the others it gives a plain number.
_TAKE_HTTPX = frozenset({"openai", "azure", "bedrock"})


def for_provider(provider: str, seconds: float) -> httpx.Timeout | float:
    """A timeout of ``seconds``, exact if the provider allows, or else rounded up to a power of two."""
    if provider in _TAKE_HTTPX:
        return _SteadyTimeout(seconds)
    return float(2.0 ** math.ceil(math.log2(seconds)))


class _SteadyTimeout(httpx.Timeout):
    """Prints the same whatever its value."""

    def __repr__(self) -> str:
        return "SteadyTimeout"

    __str__ = __repr__
