"""A store: a folder that holds the texts of many documents, an index of their words, and facts about them."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from rlm_integrations.errors import InvalidInput
from rlm_integrations.stored.documents import StoredDocument, StoredDocuments
from rlm_integrations.stored.locks import share
from rlm_integrations.stored.lookup import Lookup, Place
from rlm_integrations.stored.pack import ROW, Pack
from rlm_integrations.stored.scan import find

__all__ = ["FACTS", "INDEX", "PACK", "VERSION", "Facts", "Store"]

PACK, INDEX, FACTS = "documents", "passages.sqlite", "store.json"
VERSION = 1
# To look for a quote in blocks of text before all text is read takes at most so long, and so many.
LOOKUP_S, MAX_BLOCKS = 2.0, 5_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a store without reading it. ``largest``: bytes of memory that the largest text takes
    up; ``index``: of the index's file."""

    documents: int
    table: int
    chars: int
    largest: int
    sha256: str
    metadata_keys: tuple[str, ...]
    index: int
    version: int = VERSION

    def dumps(self) -> str:
        """As JSON, for ``loads``."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, data: str) -> Facts:
        """What ``dumps`` wrote. Raises ``ValueError`` for anything else."""
        plain = json.loads(data)
        try:
            facts = cls(**plain | {"metadata_keys": tuple(plain["metadata_keys"])})
        except (TypeError, KeyError) as error:
            raise ValueError("it lacks facts") from error
        numbers = (facts.documents, facts.table, facts.chars, facts.largest, facts.index)
        if facts.version != VERSION or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("it is of another version, or its numbers are wrong")
        return facts


class Store:
    """The documents of one store, read-only. Any number of threads may use it; ``open`` gives each folder one object.

    ``pack`` reads the documents; its ``fd`` stays open for as long as the store is held.
    """

    _opened: ClassVar[weakref.WeakValueDictionary[str, Store]] = weakref.WeakValueDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: str, facts: Facts, fd: int) -> None:
        self.path = path
        self.facts = facts
        self.pack = Pack(fd, facts.documents, facts.table)
        self._lookup = Lookup(os.path.join(path, INDEX))
        self._documents: weakref.WeakValueDictionary[int, StoredDocument] = weakref.WeakValueDictionary()
        weakref.finalize(self, os.close, fd)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """The store in the folder ``path``. Raises ``InvalidInput`` where there is none, or a damaged one."""
        path = os.path.realpath(path)
        with cls._lock:
            if store := cls._opened.get(path):
                return store
            store = cls._opened[path] = cls._open(path)
            return store

    @classmethod
    def _open(cls, path: str) -> Store:
        fd = None
        try:
            facts = Facts.loads(Path(path, FACTS).read_text("utf-8"))
            fd = os.open(os.path.join(path, PACK), os.O_RDONLY | os.O_CLOEXEC)
            if not share(fd) or not os.path.samestat(os.fstat(fd), os.stat(os.path.join(path, PACK))):
                raise ValueError("it is being removed")
            if os.fstat(fd).st_size != facts.table + ROW.size * facts.documents:
                raise ValueError(f"{PACK} has another size than it had")
            if os.stat(os.path.join(path, INDEX)).st_size != facts.index:
                raise ValueError(f"{INDEX} has another size than it had")
        except (OSError, ValueError) as error:
            if fd is not None:
                os.close(fd)
            raise InvalidInput(
                f"there is no whole store of documents in {path!r} ({error}): make the context again with "
                "Context.from_files(..., lazy=True)"
            ) from error
        return cls(path, facts, fd)

    def __len__(self) -> int:
        return len(self.pack)

    def __repr__(self) -> str:
        return f"<Store {self.path!r}: {len(self):,} documents>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)

    def document(self, number: int) -> StoredDocument:
        """A document, read now unless somebody holds it. Raises ``IndexError``."""
        document = self._documents.get(number)
        if document is None:
            document = self._documents[number] = StoredDocument(self, number)
        return document

    def documents(self) -> StoredDocuments:
        """All documents."""
        return StoredDocuments(self, range(len(self)))

    def find(self, quote: str, numbers: Sequence[int] | None = None) -> tuple[str, int] | None:
        """Document id and character of a place where ``quote`` stands.

        It is the first, in the order of ``numbers``; or, where the index spares reading all, the first in one block of
        text. Blocks; an event loop needs it in a thread.
        """
        if numbers is None:
            numbers = range(len(self))
        return self._find_by_index(quote, numbers) or find(self.pack, quote, numbers)

    def _find_by_index(self, quote: str, numbers: Sequence[int]) -> tuple[str, int] | None:
        # Those at the ends may be parts of words.
        words = quote.split()[1:-1]
        if not words or not isinstance(numbers, range) or numbers.step < 1:
            return None
        needle = quote.encode("utf-8", "surrogatepass")
        try:
            places = self._lookup.holding(words, numbers, MAX_BLOCKS, LOOKUP_S)
        except InvalidInput:  # without its index it takes longer
            return None
        for number, start, end in places:
            text_start = self.pack.row(number).text_start
            at = self.pack.read_bytes(text_start + start, text_start + end).find(needle)
            if at >= 0:
                id, _ = self.pack.head(number)
                return id or str(numbers.index(number)), self.pack.offset(number, start + at)
        return None

    def candidates(
        self, words: Sequence[str], numbers: Sequence[int] | None = None, limit: int = 500, seconds: float = 5.0
    ) -> list[Place]:
        """Blocks of text that hold ``words``, best first: document number, and its first and its last byte there.

        Bytes count from the start of the document's text, and the last is not part of the block. First come blocks
        with all words, then those with the rarest of them. ``numbers``: only of these documents. After ``seconds``
        there are those that were found. Blocks; an event loop needs it in a thread.
        """
        return self._lookup.candidates(words, numbers, limit, seconds)
