"""Finds passages of the context: SQLite's full text search, over an index that is made at the first search."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from rlm_integrations.context import Document, _texts

PASSAGE_CHARS = 600
MAX_WORDS = 40

_WORD = re.compile(r"\w+")


class Passage(Document):
    """A piece of the context, word for word: ``.id`` is its document's, ``.start`` its offset there."""

    start: int

    def __repr__(self) -> str:
        return f"[{self.id} @ {self.start}] {str.__str__(self)}"


class Passages(list[Passage]):
    """What a search found, best first; printed one below the other."""

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self)) or "(nothing found)"


class Index:
    """An index of all texts of a context, made when it is first asked."""

    def __init__(self, context: Any) -> None:
        # Of its own, since model code may change the one it has.
        self._context = context.copy() if isinstance(context, list | dict) else context
        self._texts: list[tuple[str, str]] = []
        self._places: list[tuple[int, int, int]] = []
        self._database: sqlite3.Connection | None = None

    def search(self, words: str | Sequence[str], n: int = 5) -> Passages:
        """The ``n`` passages that match ``words`` best: those with all of them, else those with any."""
        if not isinstance(words, str):
            words = " ".join(map(str, words))
        terms = list(dict.fromkeys(_WORD.findall(words)))[:MAX_WORDS]
        if not terms or n < 1:
            return Passages()
        if self._database is None:
            self._database = self._build()
        quoted = [f'"{term}"' for term in terms]
        rows = self._match(" AND ".join(quoted), n) or self._match(" OR ".join(quoted), n)
        return Passages(self._passage(row) for row in rows)

    def _match(self, query: str, n: int) -> list[int]:
        assert self._database is not None
        sql = "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?"
        return [row for (row,) in self._database.execute(sql, (query, min(int(n), 1000)))]

    def _passage(self, row: int) -> Passage:
        number, start, end = self._places[row]
        id, text = self._texts[number]
        passage = Passage(text[start:end], id=id)
        passage.start = start
        return passage

    def _build(self) -> sqlite3.Connection:
        database = sqlite3.connect(":memory:", isolation_level=None)
        for setting in ("journal_mode = OFF", "temp_store = MEMORY", "cache_size = -16000"):
            database.execute(f"PRAGMA {setting}")
        # The text itself stays where it is: the index holds only words and row numbers.
        database.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(text, content='', detail=none, tokenize='porter unicode61')"
        )
        self._texts = list(_texts(self._context, ""))
        database.execute("BEGIN")
        database.executemany("INSERT INTO passages(rowid, text) VALUES (?, ?)", self._rows())
        database.execute("COMMIT")
        return database

    def _rows(self) -> Iterator[tuple[int, str]]:
        for number, (_, text) in enumerate(self._texts):
            for start, end in passages(text):
                self._places.append((number, start, end))
                piece = text[start:end]
                yield len(self._places) - 1, piece if piece.isascii() else piece.encode("utf-8", "replace").decode()


def passages(text: str) -> Iterator[tuple[int, int]]:
    """Where to cut ``text``: at the last paragraph, line, sentence or word end within ``PASSAGE_CHARS``."""
    start = 0
    while start < len(text):
        end = start + PASSAGE_CHARS
        if end < len(text):
            for mark in ("\n\n", "\n", ". ", " "):
                found = text.rfind(mark, start + PASSAGE_CHARS // 3, end)
                if found >= 0:
                    end = found + len(mark)
                    break
        yield start, min(end, len(text))
        start = end
