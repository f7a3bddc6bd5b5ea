"""Tells the cells that a model wrote from those that the engine runs by itself, to look something up for it."""

from __future__ import annotations

__all__ = ["holds"]


def holds(reply: str, code: str) -> bool:
    """Whether the cell ``code`` stands in ``reply``; not by its white space, which is not kept as it was."""
    return "".join(code.split()) in "".join(reply.split())
