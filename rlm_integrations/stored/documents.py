"""Documents that lie on disk: one that was read, and many of which each is read when it is asked for."""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from rlm_integrations.context import HEAD_CHARS, Document, DocumentsOnDisk
from rlm_integrations.stored.pack import Row
from rlm_integrations.stored.scan import bounds

if TYPE_CHECKING:
    from rlm_integrations.stored.store import Store

__all__ = ["StoredDocument", "StoredDocuments"]


class StoredDocument(Document):
    """Document ``number`` of ``store``, read; pickled as a reference to the store's folder, without its text."""

    type_name = "Document"

    store: Store
    number: int

    def __new__(cls, store: Store, number: int) -> StoredDocument:
        head, text = store.pack.read(store.pack.row(number))
        id, metadata = head or (None, {})
        document: StoredDocument = super().__new__(cls, text, id=id, metadata=metadata)  # type: ignore[assignment]
        document.store, document.number = store, number
        return document

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.store).document, (self.store, self.number)


class StoredDocuments(DocumentsOnDisk):
    """The documents ``numbers`` of ``store``, in that order. Each is read when it is asked for.

    Pickled as a reference to the store's folder. Raises ``IndexError`` for a number that the store does not have.
    """

    def __init__(self, store: Store, numbers: range | tuple[int, ...]) -> None:
        self.store = store
        self.numbers = numbers
        count = len(store.pack)
        first, last = bounds(numbers) if len(numbers) else (0, -1)
        if first < 0 or last >= count:
            raise IndexError(f"the store has {count:,} documents, from 0; asked for {first} to {last}")

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> StoredDocument: ...
    @overload
    def __getitem__(self, index: slice) -> StoredDocuments: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return StoredDocuments(self.store, self.numbers[index])
        return self.store.document(self.numbers[index])

    def __iter__(self) -> Iterator[StoredDocument]:
        return map(self.store.document, self.numbers)

    def __repr__(self) -> str:
        return f"<{len(self):,} documents in {self.store.path!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredDocuments):
            return NotImplemented
        if self.store is not other.store or len(self) != len(other):
            return False
        return self.numbers == other.numbers or all(map(operator.eq, self.numbers, other.numbers))

    def __hash__(self) -> int:
        return hash((id(self.store), len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredDocuments, (self.store, self.numbers)

    @property
    def is_whole(self) -> bool:
        """Whether these are all documents of the store, in order."""
        return self.numbers == range(len(self.store.pack))

    def ids(self) -> Iterator[str]:
        """The id of each document in order."""
        return (id for id, _ in self.heads())

    def heads(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and metadata of each document in order, without its text."""
        for index, row in enumerate(self._rows()):
            id, metadata = self.store.pack.head_at(row) or (None, {})
            yield id or str(index), metadata

    @cached_property
    def chars(self) -> int:
        """Characters of text in all."""
        return self.store.facts.chars if self.is_whole else sum(row.chars for row in self._rows())

    @cached_property
    def sha256(self) -> str:
        """Of a whole store the hash of a ``Context`` of the same documents; of a part one of that hash and the numbers.

        So a child run over a part need not have it all read first.
        """
        whole = self.store.facts.sha256
        if self.is_whole:
            return whole
        digest = hashlib.sha256(f"part of {whole}:".encode())
        digest.update(array("Q", self.numbers))
        return digest.hexdigest()

    @cached_property
    def metadata_keys(self) -> tuple[str, ...]:
        """All keys of the documents' metadata, sorted."""
        if self.is_whole:
            return self.store.facts.metadata_keys
        return tuple(sorted({key for _, metadata in self.heads() for key in metadata}))

    @cached_property
    def head(self) -> str:
        """The first characters of the first text that has any."""
        first = next((index for index, row in enumerate(self._rows()) if row.chars), None)
        if first is None:
            return ""
        number = self.numbers[first]
        row = self.store.pack.row(number)
        # A character takes four bytes at most.
        return self.store.pack.piece(number, 0, min(4 * HEAD_CHARS, row.text_end - row.text_start))[:HEAD_CHARS]

    def find(self, quote: str) -> tuple[str, int] | None:
        """Document id and offset of a place where ``quote`` stands word for word, as ``Store.find``."""
        return self.store.find(quote, self.numbers)

    def near(self, words: Sequence[str]) -> Iterator[str]:
        """Pieces of the documents that may hold ``words`` in one place, best first."""
        for number, start, end in self.store.candidates(words, self.numbers):
            yield self.store.pack.piece(number, start, end)

    def _rows(self) -> Iterator[Row]:
        pack, numbers = self.store.pack, self.numbers
        if isinstance(numbers, range) and numbers.step == 1:
            return pack.rows(numbers.start, numbers.stop) if numbers else iter(())
        return map(pack.row, numbers)
