"""The texts of a page: each held once, cut where the page would get too large, and fit to be shown."""

from __future__ import annotations

import re

from rlm_integrations.page.code import Tokens, highlighted
from rlm_integrations.sandbox.output import clean

__all__ = ["Texts", "flat", "shown"]

MAX_PAGE_CHARS = 16_000_000
MAX_CODE_CHARS = 50_000
# Marks that turn the order of what is shown around, and line ends that no editor shows.
_HIDDEN = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    """``text`` with everything that would not show, or would change what shows, written out as escapes."""
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", clean(text))


def flat(text: str, chars: int = 200) -> str:
    """The start of ``text`` on one line."""
    line = " ".join(shown(text[: 2 * chars]).split())
    return line if len(line) <= chars and len(text) <= 2 * chars else f"{line[:chars]}…"


class Texts:
    """The long texts of a page, by number. All of them together have about ``max_chars`` at most."""

    def __init__(self, max_chars: int = MAX_PAGE_CHARS) -> None:
        self._numbers: dict[tuple[str, bool], int] = {}
        self._max_chars = max_chars
        self.cut = 0
        self.limit = max_chars

    def add(self, text: str, *, code: bool = False) -> int:
        """The number of ``text``, which is shown as Python where it is ``code``."""
        return self._numbers.setdefault((text, code), len(self._numbers))

    def all(self) -> list[str | Tokens]:
        """Texts in the order of their numbers. Sets ``limit``, and ``cut``: how many are longer than that."""
        self.limit = _limit([len(text) for text, _ in self._numbers], self._max_chars)
        self.cut = sum(len(text) > self.limit for text, _ in self._numbers)
        return [self._fit(text, code) for text, code in self._numbers]

    def _fit(self, text: str, code: bool) -> str | Tokens:
        if left := max(0, len(text) - self.limit):
            tail = self.limit // 3
            note = f"\n[… {left:,} characters left out …]\n"
            text = text[: self.limit - tail] + note + text[len(text) - tail :]
        return highlighted(shown(text)) if code and len(text) <= MAX_CODE_CHARS else shown(text)


def _limit(lengths: list[int], max_chars: int) -> int:
    """The largest length to cut texts to so that all fit: short ones leave their room to long ones."""
    room = max_chars
    for done, length in enumerate(ordered := sorted(lengths)):
        share = room // (len(ordered) - done)
        if length > share:
            return share
        room -= length
    return max_chars
