"""Finds passages of the context with SQLite's full text search (FTS5, bm25), over an index in memory.

A context of up to ``INDEXED_CHARS`` is indexed whole at the first search. Indexing takes a second for 6 MB, so of a
larger one only the passages that hold the words are: those with the rarest words first, ranked in the same way.
"""

from __future__ import annotations

import heapq
import math
import re
import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rlm_integrations.context import Document, cuts, texts_of

PASSAGE_CHARS = 300
INDEXED_CHARS = 4_000_000
MAX_WORDS = 40
MAX_HITS = 20_000
MAX_CANDIDATES = 500
MAX_BEST_PARTS = 2
TOLD_CHARS = 200

_WORD = re.compile(r"\w+")
_PART_END = re.compile(r"\n+|(?<=[.!?]) +")


class Passage(Document):
    """A piece of the context, word for word: ``.id`` is its document's, ``.start`` its offset there."""

    start: int

    def __repr__(self) -> str:
        return f"[{self.id} @ {self.start}{_told(self.metadata)}] {str.__str__(self)}"


class Passages(list[Passage]):
    """What a search found, best first; printed one below the other."""

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self)) or "(nothing found)"


class Index:
    """Finds passages of all texts of a context. Costs nothing until the first search."""

    indexed_chars = INDEXED_CHARS

    def __init__(self, context: Any) -> None:
        # Of its own, since model code may change the one it has.
        self._context = context.copy() if isinstance(context, list | dict) else context
        self._texts: list[tuple[str, str]] = []
        self._metadata: list[Mapping[str, Any]] = []
        # All passages, one after the other: which text each is of, and where it starts; then the first of each text.
        self._owners: list[int] = []
        self._starts: list[int] = []
        self._firsts: list[int] = []
        self._whole: sqlite3.Connection | None = None

    def search(self, words: str | Sequence[str], n: int = 5, brief: bool = False) -> Passages:
        """The ``n`` passages that match ``words`` best: those with all of them, else those with any.

        ``brief``: of each passage only the line or the sentence that matches best.
        """
        phrases, terms = asked(words)
        if not terms or n < 1:
            return Passages()
        if not self._texts:
            self._split()
        if sum(len(text) for _, text in self._texts) > self.indexed_chars:
            database = self._indexed(self._candidates(terms))
        else:
            database = self._whole = self._whole or self._indexed(range(len(self._starts)))
        rows = _match(database, " AND ".join(phrases), n) or _match(database, " OR ".join(phrases), n)
        found = Passages(map(self._passage, rows))
        return Passages(_best_part(passage, terms) for passage in found) if brief else found

    def _split(self) -> None:
        self._texts = list(texts_of(self._context, ""))
        if isinstance(self._context, list) and all(isinstance(item, str) for item in self._context):
            self._metadata = [getattr(item, "metadata", {}) for item in self._context]
        for number, (_, text) in enumerate(self._texts):
            self._firsts.append(len(self._starts))
            starts = [start for start, _ in passages(text)]
            self._starts.extend(starts)
            self._owners.extend([number] * len(starts))
        self._firsts.append(len(self._starts))

    def _place(self, row: int) -> tuple[int, int, int]:
        number = self._owners[row]
        last = row + 1 == self._firsts[number + 1]
        return number, self._starts[row], len(self._texts[number][1]) if last else self._starts[row + 1]

    def _passage(self, row: int) -> Passage:
        number, start, end = self._place(row)
        id, text = self._texts[number]
        passage = Passage(text[start:end], id=id, metadata=self._metadata[number] if self._metadata else None)
        passage.start = start
        return passage

    def _indexed(self, rows: Iterable[int]) -> sqlite3.Connection:
        database = sqlite3.connect(":memory:", isolation_level=None)
        for setting in ("journal_mode = OFF", "temp_store = MEMORY", "cache_size = -16000"):
            database.execute(f"PRAGMA {setting}")
        # The text itself stays where it is: the index holds only words and row numbers.
        database.execute("CREATE VIRTUAL TABLE passages USING fts5(text, content='', tokenize='porter unicode61')")
        database.execute("BEGIN")
        database.executemany("INSERT INTO passages(rowid, text) VALUES (?, ?)", self._documents(rows))
        database.execute("COMMIT")
        return database

    def _documents(self, rows: Iterable[int]) -> Iterator[tuple[int, str]]:
        for row in rows:
            number, start, end = self._place(row)
            piece = self._texts[number][1][start:end]
            if start == 0 and (said := self._said_of(number)):
                # What is asked by author or date is found by the document's first passage.
                piece = f"{piece}\n{said}"
            yield row, piece if piece.isascii() else piece.encode("utf-8", "replace").decode()

    def _said_of(self, number: int) -> str:
        """The values of a document's metadata, as far as they are indexed."""
        said = ""
        for value in self._metadata[number].values() if self._metadata else ():
            said += f"{value[:PASSAGE_CHARS] if isinstance(value, str) else value} "
            if len(said) > PASSAGE_CHARS:
                break
        return said[:PASSAGE_CHARS].rstrip()

    def _candidates(self, terms: Sequence[str]) -> list[int]:
        """The passages that hold the most telling of ``terms``, by the sum of their inverse document frequencies."""
        found: list[list[int]] = [[] for _ in terms]
        for number, (_, text) in enumerate(self._texts):
            lowered = text.lower()
            if len(lowered) != len(text):
                # Some letters grow when lowered, and offsets would no longer fit.
                lowered = text
            said = self._said_of(number).lower()
            for rows, term in zip(found, terms, strict=True):
                if text and len(rows) < MAX_HITS and _stem(term) in said:
                    rows.append(self._firsts[number])
                self._scan(number, lowered, _stem(term), rows)
        weights: defaultdict[int, float] = defaultdict(float)
        for rows in found:
            weight = math.log(1 + len(self._starts) / (1 + len(rows)))
            for row in rows:
                weights[row] += weight
        return heapq.nlargest(MAX_CANDIDATES, weights, key=weights.__getitem__)

    def _scan(self, number: int, text: str, stem: str, rows: list[int]) -> None:
        first, end = self._firsts[number], self._firsts[number + 1]
        at = text.find(stem)
        while at >= 0 and len(rows) < MAX_HITS:
            row = bisect_right(self._starts, at, first, end) - 1
            if not rows or rows[-1] != row:
                rows.append(row)
            if row + 1 == end:
                return
            at = text.find(stem, self._starts[row + 1])


def asked(words: str | Sequence[str]) -> tuple[list[str], list[str]]:
    """The phrases of a search, quoted, and its words; of each at most ``MAX_WORDS``."""
    if not isinstance(words, str):
        words = " ".join(map(str, words))
    phrases = [phrase for phrase in map(_WORD.findall, words.split()) if phrase]
    # What is written as one word, such as a name with a hyphen, is looked for as a phrase.
    quoted = dict.fromkeys(f'"{" ".join(phrase)}"' for phrase in phrases)
    return list(quoted)[:MAX_WORDS], list(dict.fromkeys(chain.from_iterable(phrases)))[:MAX_WORDS]


def _told(metadata: Mapping[str, Any]) -> str:
    """Metadata as a passage shows them; nothing where they are long."""
    told = ""
    for key, value in metadata.items():
        told += f", {key}: {value}"
        if len(told) > TOLD_CHARS:
            return ""
    return told


def _stem(term: str) -> str:
    """What all forms of a word begin with, about."""
    term = term.lower()
    return term[: max(4, len(term) - 3)] if len(term) > 4 else term


def _match(database: sqlite3.Connection, query: str, n: int) -> list[int]:
    sql = "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?"
    return [row for (row,) in database.execute(sql, (query, min(int(n), 1000)))]


def _best_part(passage: Passage, terms: Sequence[str]) -> Passage:
    """The line or sentence of ``passage`` that has most letters of ``terms``: long words tell more than short ones."""
    ends = [match.end() for match in _PART_END.finditer(passage)]
    bounds = [(start, end) for start, end in zip([0, *ends], [*ends, len(passage)], strict=True) if start < end]
    stems = [_stem(term) for term in terms]

    def told(bound: tuple[int, int]) -> int:
        part = passage[slice(*bound)].lower()
        return sum(len(stem) for stem in stems if stem in part)

    most = max(map(told, bounds))
    best = [bound for bound in bounds if told(bound) == most][:MAX_BEST_PARTS]
    part = Passage(
        " ".join(passage[start:end].rstrip() for start, end in best), id=passage.id, metadata=passage.metadata
    )
    part.start = passage.start + best[0][0]
    return part


def passages(text: str) -> Iterator[tuple[int, int]]:
    """Where the passages of ``text`` are."""
    return cuts(text, PASSAGE_CHARS)
