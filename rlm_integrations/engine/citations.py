"""Checks quotes against the context, word for word."""

from __future__ import annotations

import re

from rlm_integrations.context import Context
from rlm_integrations.events import Citation

__all__ = ["QuoteNotFound", "cite"]

MAX_QUOTES = 50
MAX_SHOWN_CHARS = 300
# Bounds of the look for text like a quote, which runs on the host: places tried, and words compared at each.
MAX_PLACES = 1_000
MAX_WORDS = 40


class QuoteNotFound(Exception):
    """A quote does not stand in the context; ``nearest`` is text that differs in spaces or case only, if any does."""

    def __init__(self, quote: str, nearest: str | None) -> None:
        super().__init__(quote)
        self.quote, self.nearest = quote, nearest


def cite(context: Context, quotes: tuple[str, ...]) -> tuple[Citation, ...]:
    """Where each quote stands. Raises ``QuoteNotFound`` for the first that does not, ``ValueError`` for too many."""
    if len(quotes) > MAX_QUOTES:
        raise ValueError(f"{len(quotes)} quotes are too many: give at most {MAX_QUOTES}")
    citations = []
    for quote in quotes:
        place = context.find(quote) if quote.strip() else None
        if place is None:
            raise QuoteNotFound(quote[:MAX_SHOWN_CHARS], _nearest(context, quote))
        document_id, start = place
        citations.append(Citation(document_id, start, start + len(quote), quote))
    return tuple(citations)


def _nearest(context: Context, quote: str) -> str | None:
    """Text that has the words of ``quote``, in other spaces or another case."""
    words = quote.split()
    if not words or len(words) > MAX_WORDS or len(quote) > MAX_SHOWN_CHARS:
        return None
    rarest = max(words, key=len)
    before = " ".join(words[: words.index(rarest)])
    pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    places = MAX_PLACES
    for _, text in context.texts():
        for found in re.finditer(re.escape(rarest), text, re.IGNORECASE):
            start = max(0, found.start() - 2 * len(before) - len(words))
            if match := pattern.search(text, start, start + 4 * len(quote) + 2 * len(words)):
                return match[0]
            places -= 1
            if not places:
                return None
    return None
