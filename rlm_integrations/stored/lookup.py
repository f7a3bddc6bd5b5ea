"""The index of a store's words (SQLite FTS5): written block by block, and asked which blocks hold given words.

It holds for each word the numbers of its blocks, and for each block its place: no text, and no places of words within
a block. A block is a few thousand characters of one document; blocks are numbered from 1 in the order of the texts.
"""

from __future__ import annotations

import heapq
import math
import sqlite3
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from rlm_integrations.context import Document, cuts
from rlm_integrations.errors import InvalidInput
from rlm_integrations.stored.scan import bounds, runs

__all__ = ["IndexWriter", "Lookup", "Place"]

BLOCK_CHARS = 4_000
MAX_SAID_CHARS = 2_000
MAX_TERMS = 40
MAX_TERM_CHARS = 100
# Blocks whose words are weighed, in all; that takes some 0.2 s.
MAX_WEIGHED = 200_000
# Blocks with the same words that are listed to take some of them.
MAX_LISTED = 200_000
# Words are gathered in memory up to this, which is what makes the writing quick.
HASH_BYTES = 64 << 20
STEPS_BETWEEN_LOOKS = 10_000

# Number of the document, first byte and end of the block in its text.
Place = tuple[int, int, int]


class IndexWriter:
    """Writes an index to a new file ``path``. Documents are added in order."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for setting in ("page_size = 8192", "journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE blocks(number INTEGER PRIMARY KEY, document, start, stop)")
        self._database.execute(
            "CREATE VIRTUAL TABLE passages USING "
            "fts5(text, content='', detail=none, columnsize=0, tokenize='porter unicode61')"
        )
        for option, value in (("hashsize", HASH_BYTES), ("automerge", 0)):
            self._database.execute("INSERT INTO passages(passages, rank) VALUES (?, ?)", (option, value))
        self._database.execute("BEGIN")
        self._blocks = 0

    def add(self, number: int, document: Document) -> None:
        """Index a document, its id and metadata with its first block."""
        at = 0
        for start, end in blocks(document):
            text = str.__getitem__(document, slice(start, end))
            size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            if start == 0:
                text = f"{text}\n{_said_of(document)}"
            self._blocks += 1
            self._database.execute(
                "INSERT INTO passages(rowid, text) VALUES (?, ?)", (self._blocks, _without_surrogates(text))
            )
            self._database.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", (self._blocks, number, at, at + size))
            at += size

    def end(self) -> None:
        """Bring it in order; nothing may be added any more."""
        self._database.execute("INSERT INTO passages(passages) VALUES ('optimize')")
        self._database.execute("COMMIT")
        self.close()

    def close(self) -> None:
        """Close the file, whole or not; twice is fine."""
        self._database.close()


def blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where the blocks of ``text`` are; at least one."""
    if not text:
        yield 0, 0
    yield from cuts(text, BLOCK_CHARS)


def _said_of(document: Document) -> str:
    said = f"{document.id} "
    for value in document.metadata.values():
        said += f"{value[:MAX_SAID_CHARS] if isinstance(value, str) else value} "
        if len(said) > MAX_SAID_CHARS:
            break
    return said[:MAX_SAID_CHARS]


def _without_surrogates(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class Lookup:
    """Looks words up in the index at ``path``."""

    def __init__(self, path: str) -> None:
        self._uri = f"{Path(path).as_uri()}?mode=ro&immutable=1"

    def candidates(
        self, words: Sequence[str], numbers: Sequence[int] | None, limit: int, seconds: float
    ) -> list[Place]:
        """As ``Store.candidates``."""
        return self._look_up(words, numbers, limit, seconds, _Query.run)

    def holding(self, words: Sequence[str], numbers: Sequence[int] | None, limit: int, seconds: float) -> list[Place]:
        """The first blocks that hold all ``words``, in order."""
        return self._look_up(words, numbers, limit, seconds, _Query.run_all)

    def _look_up(
        self,
        words: Sequence[str],
        numbers: Sequence[int] | None,
        limit: int,
        seconds: float,
        run: Callable[[_Query, dict[str, str]], None],
    ) -> list[Place]:
        terms = _terms(words)
        if not terms or (numbers is not None and not len(numbers)):
            return []
        try:
            with closing(sqlite3.connect(self._uri, uri=True, isolation_level=None)) as database:
                database.execute("PRAGMA temp_store = MEMORY")
                query = _Query(database, numbers, limit)
                until = time.monotonic() + seconds
                database.set_progress_handler(lambda: time.monotonic() > until, STEPS_BETWEEN_LOOKS)
                with _interrupted():
                    run(query, terms)
                database.set_progress_handler(None, 0)
                return query.places()
        except sqlite3.Error as error:
            raise InvalidInput(
                f"the index of the documents can't be read ({error}; {self._uri}): make the context again with "
                "Context.from_files(..., lazy=True)"
            ) from error


@contextmanager
def _interrupted() -> Iterator[None]:
    """Take the end of the time that there is for an end like others."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise


class _Query:
    """One search. ``found`` are numbers of blocks, best first."""

    def __init__(self, database: sqlite3.Connection, numbers: Sequence[int] | None, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._total = database.execute("SELECT max(number) FROM blocks").fetchone()[0]
        self._from, self._where = "passages", ""
        self._bounds: tuple[int, ...] = ()
        if numbers is not None:
            self._restrict(numbers)
        self.found: dict[int, None] = {}

    def run(self, terms: dict[str, str]) -> None:
        """Look for ``terms`` (by what the index has for each), from blocks with all of them to those with any."""
        known = sorted((count, term) for stem, term in terms.items() if (count := self._count(stem)))
        if not known:
            return
        self._take_spread(self._having([term for _, term in known]))
        if len(known) > 1 and self._room():
            self._weigh(known)
        left = len(known)
        while left > 1 and self._room():
            left -= max(1, left // 4)
            self._take_spread(self._having([term for _, term in known[:left]]))
        for _, term in known[1:]:
            if self._room():
                self._take_spread(self._having([term]))

    def run_all(self, terms: dict[str, str]) -> None:
        """Look for blocks that have all ``terms``."""
        if all(map(self._count, terms)):
            self._take(self._having(terms.values()))

    def places(self) -> list[Place]:
        """Where the blocks stand."""
        sql = "SELECT document, start, stop FROM blocks WHERE number = ?"
        return [self._database.execute(sql, (number,)).fetchone() for number in self.found]

    def _restrict(self, numbers: Sequence[int]) -> None:
        smallest, largest = bounds(numbers)
        first, last = self._first_of(smallest), self._first_of(largest + 1) - 1
        self._where, self._bounds = " AND passages.rowid BETWEEN ? AND ?", (first, last)
        if next(islice(runs(numbers), 1, None), None) is None:
            return
        self._database.execute("CREATE TEMP TABLE allowed(document INTEGER PRIMARY KEY)")
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO allowed VALUES (?)", ((number,) for number in numbers))
        self._database.execute("COMMIT")
        self._from = "passages CROSS JOIN blocks ON blocks.number = passages.rowid"
        self._where += " AND blocks.document IN allowed"

    def _first_of(self, document: int) -> int:
        """Number of the first block of a document, or of the one after the last."""
        sql = "SELECT document FROM blocks WHERE number = ?"

        def owner(number: int) -> int:
            owner: int = self._database.execute(sql, (number,)).fetchone()[0]
            return owner

        return 1 + bisect_left(range(1, self._total + 1), document, key=owner)

    def _count(self, stem: str) -> int:
        """In how many blocks of the whole store a word is."""
        self._database.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.words USING fts5vocab(main, passages, row)")
        row = self._database.execute("SELECT doc FROM temp.words WHERE term = ?", (stem,)).fetchone()
        return row[0] if row else 0

    def _having(self, terms: Iterable[str]) -> Iterator[int]:
        """The blocks that have all ``terms``, in order."""
        query = " AND ".join(f'"{term}"' for term in terms)
        sql = f"SELECT passages.rowid FROM {self._from} WHERE passages MATCH ?{self._where}"
        return (number for (number,) in self._database.execute(sql, (query, *self._bounds)))

    def _weigh(self, known: Sequence[tuple[int, str]]) -> None:
        """Take the blocks with the most telling words, by the sum of their inverse document frequencies."""
        weights: defaultdict[int, float] = defaultdict(float)
        weighed = 0
        for count, term in known:
            weighed += count
            if weighed > MAX_WEIGHED:
                break
            weight = math.log(1 + self._total / (1 + count))
            for number in self._having([term]):
                weights[number] += weight
        self._take(heapq.nlargest(self._limit, weights, key=weights.__getitem__))

    def _take(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if not self._room():
                return
            self.found[number] = None

    def _take_spread(self, numbers: Iterable[int]) -> None:
        """Take those that have room, of more as many from all over the store: what comes first is no better."""
        found: list[int] = []
        try:
            found.extend(islice(numbers, MAX_LISTED))
        finally:
            # What came before the time was up.
            room = max(1, self._room())
            self._take(found[index * len(found) // room] for index in range(room) if len(found) > room)
            self._take(found)

    def _room(self) -> int:
        return self._limit - len(self.found)


def _terms(words: Sequence[str]) -> dict[str, str]:
    """The words of ``words`` as an index has them, each with one form of it that may be asked for."""
    said = " ".join(str(word)[:MAX_TERM_CHARS] for word in islice(words, MAX_TERMS))
    split = _tokens("unicode61", [said])
    plain = list(dict.fromkeys(token for _, token in split))[:MAX_TERMS]
    return {stem: plain[row - 1] for row, stem in reversed(_tokens("porter unicode61", plain))}


def _tokens(tokenizer: str, texts: Sequence[str]) -> list[tuple[Any, str]]:
    """The tokens of each text (numbered from 1), as SQLite splits it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='{tokenizer}')")
        database.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(texts, instance)")
        rows = ((number, _without_surrogates(text)) for number, text in enumerate(texts, 1))
        database.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", rows)
        return database.execute('SELECT doc, term FROM tokens ORDER BY doc, "offset"').fetchall()
