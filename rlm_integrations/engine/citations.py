"""Checks quotes against the context, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlm_integrations.context import STEP_CHARS, Context, DocumentsOnDisk
from rlm_integrations.engine.effects import Branch, Work
from rlm_integrations.events import Citation

__all__ = ["QuoteNotFound", "cite"]

MAX_QUOTES = 50
MAX_SHOWN_CHARS = 300
# Bounds of the look for text like a quote, which runs on the host: places tried, and words compared at each.
MAX_PLACES = 1_000
MAX_WORDS = 40
# To look for a few quotes in so much text takes a millisecond or two.
LONG_CHARS = 1_000_000


class QuoteNotFound(Exception):
    """A quote does not stand in the context; ``nearest`` is text that differs in spaces or case only, if any does."""

    def __init__(self, quote: str, nearest: str | None) -> None:
        super().__init__(quote)
        self.quote, self.nearest = quote, nearest


def cite(context: Context, quotes: tuple[str, ...]) -> Branch[tuple[Citation, ...]]:
    """Where each quote stands. Raises ``QuoteNotFound`` for the first that does not, ``ValueError`` for too many."""
    citations: tuple[Citation, ...] = yield Work(lambda: _cited(context, quotes), context.chars > LONG_CHARS)
    return citations


def _cited(context: Context, quotes: tuple[str, ...]) -> tuple[Citation, ...]:
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
    value = context.value
    # All that is on disk can't be read for this.
    texts = value.near(words) if isinstance(value, DocumentsOnDisk) else (text for _, text in context.texts())
    for text in texts:
        for found in _found(rarest, text):
            start = max(0, found.start() - 2 * len(before) - len(words))
            if match := pattern.search(text, start, start + 4 * len(quote) + 2 * len(words)):
                return match[0]
            places -= 1
            if not places:
                return None
    return None


def _found(word: str, text: str) -> Iterator[re.Match[str]]:
    """Where ``word`` stands, in any case; looked for in steps, since nothing else runs during one."""
    pattern = re.compile(re.escape(word), re.IGNORECASE)
    for start in range(0, len(text), STEP_CHARS):
        for found in pattern.finditer(text, start, start + STEP_CHARS + len(word) - 1):
            if found.start() < start + STEP_CHARS:
                yield found
