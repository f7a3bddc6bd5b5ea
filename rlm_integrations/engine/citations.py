"""Checks quotes against the context, word for word."""

from __future__ import annotations

import re

from rlm_integrations.context import Context
from rlm_integrations.events import Citation

__all__ = ["QuoteNotFound", "cite"]

MAX_QUOTES = 50
MAX_NEAREST_CHARS = 10_000


class QuoteNotFound(Exception):
    """A quote does not stand in the context; ``nearest`` is text that differs in spaces or case only, if any does."""

    def __init__(self, quote: str, nearest: str | None) -> None:
        super().__init__(quote)
        self.quote, self.nearest = quote, nearest


def cite(context: Context, quotes: tuple[str, ...]) -> tuple[Citation, ...]:
    """Where each quote stands. Raises ``QuoteNotFound`` for the first that does not."""
    citations = []
    for quote in quotes[:MAX_QUOTES]:
        place = context.find(quote) if quote.strip() else None
        if place is None:
            raise QuoteNotFound(quote, _nearest(context, quote))
        document_id, start = place
        citations.append(Citation(document_id, start, start + len(quote), quote))
    return tuple(citations)


def _nearest(context: Context, quote: str) -> str | None:
    words = quote.split()
    if not words or len(quote) > MAX_NEAREST_CHARS:
        return None
    pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    for _, text in context.texts():
        if match := pattern.search(text):
            return match[0]
    return None
